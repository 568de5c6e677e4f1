//! Generated files in the repository say what the code says. `UPDATE_GENERATED=1 cargo test generated` rewrites them.

use std::path::Path;

use postern::api;

#[test]
fn crds_on_disk_are_those_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (crd, folder) in api::crds()
        .iter()
        .flat_map(|crd| [(crd, "crds"), (crd, "charts/postern/files/crds")])
    {
        let path = root
            .join(folder)
            .join(format!("{}.yaml", crd.metadata.name.as_deref().unwrap()));
        let wanted = api::yaml(crd);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            found,
            wanted,
            "{} is stale: run UPDATE_GENERATED=1 cargo test generated",
            path.display()
        );
    }
}
