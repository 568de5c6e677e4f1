//! What runs inside the store, each in one step. Numbers alone are passed and answered.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::Cmd;

use crate::text::Hex;

/// A script is called by the SHA-1 of its text; a store that does not know it is told the text, which it then remembers.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: LazyLock<String>,
}

macro_rules! script {
    ($text:expr) => {
        Script {
            text: $text,
            hash: LazyLock::new(|| hash($text)),
        }
    };
}

/// `limits::windows::Counters::take`, in the store. Answers {admitted, elapsed, current, previous}.
pub static TAKE: Script = script!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local start, current, previous = now, 0, 0
local held = redis.call('GET', KEYS[1])
if held then
  local s, c, p = string.match(held, '^(%d+) (%d+) (%d+)$')
  if s then start, current, previous = tonumber(s), tonumber(c), tonumber(p) end
end
if start > now then start = now end
if now - start >= window then
  if now - start < 2 * window and current > 0 then
    start, current, previous = start + window, 0, current
  else
    start, current, previous = now, 0, 0
  end
end
local elapsed = now - start
local left = math.floor(((limit - current) * window - previous * (window - elapsed)) / window)
if left < cost then return {0, elapsed, current, previous} end
current = current + cost
redis.call('SET', KEYS[1], string.format('%d %d %d', start, current, previous), 'PX', 2 * window - elapsed)
return {1, elapsed, current, previous}
"
);

/// Takes the lease `ARGV[3]` for `ARGV[2]` milliseconds, if fewer than `ARGV[1]` are held. Answers 1, or else 0.
pub static OPEN: Script = script!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"
);

/// Holds the leases from `ARGV[2]` on for `ARGV[1]` milliseconds more, whether they are still known or not.
pub static RENEW: Script = script!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"
);

/// Gives up the leases ARGV.
pub static CLOSE: Script = script!(
    r"
for i = 1, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end
return 1
"
);

impl Script {
    /// The short way; the store answers NOSCRIPT where it does not know the script.
    pub fn by_hash(&self, key: &str, arguments: &[u64]) -> Cmd {
        command("EVALSHA", &self.hash, key, arguments)
    }

    /// With the whole text, by which the store learns the script.
    pub fn by_text(&self, key: &str, arguments: &[u64]) -> Cmd {
        command("EVAL", self.text, key, arguments)
    }
}

fn command(name: &str, script: &str, key: &str, arguments: &[u64]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(1).arg(key).arg(arguments);
    command
}

fn hash(text: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    Hex(hash.as_ref()).to_string()
}
