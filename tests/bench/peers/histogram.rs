//! A histogram as /metrics shows it: read, subtracted, and asked for quantiles.

/// Upper bounds in seconds, and how many observations lie at or below each.
pub struct Histogram(Vec<(f64, u64)>);

impl Histogram {
    /// None if the metric is not there.
    pub fn parse(metrics: &str, name: &str) -> Option<Self> {
        let prefix = format!("{name}_bucket{{le=\"");
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
        };
        let buckets: Vec<(f64, u64)> = metrics.lines().filter_map(bucket).collect();
        (!buckets.is_empty()).then_some(Self(buckets))
    }

    pub fn since(mut self, before: &Self) -> Self {
        self.0
            .iter_mut()
            .zip(&before.0)
            .for_each(|((_, now), (_, then))| *now -= then);
        self
    }

    /// The bucket in which the quantile lies, in milliseconds: finer it does not know.
    pub fn quantile(&self, share: f64) -> String {
        let total = self.0.last().map_or(0, |&(_, count)| count);
        let rank = (total as f64 * share).ceil() as u64;
        match self.0.iter().find(|&&(_, count)| total > 0 && count >= rank) {
            Some((bound, _)) if bound.is_finite() => format!("<= {:.1}", bound * 1e3),
            Some(_) => "past the last bucket".to_owned(),
            None => "none".to_owned(),
        }
    }
}
