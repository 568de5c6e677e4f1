//! Each of manifests/examples compiles to what its reader expects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/examples");
    let mut examples: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    examples.sort();
    examples
}

#[test]
fn every_example_is_accepted() {
    let examples = examples();
    assert!(examples.len() > 5, "{examples:?}");
    for path in examples {
        let output = Command::new(env!("CARGO_BIN_EXE_postern"))
            .arg("check")
            .arg(&path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let is_pending = told.contains("CertificatePending");
        // Only a running leader can order a certificate.
        assert_eq!(is_pending, path.ends_with("acme.yaml"), "{told}");
        assert!(output.status.success() != is_pending, "{told}");
        let accepted: Vec<_> = told
            .lines()
            .filter(|line| line.trim().starts_with("Accepted "))
            .collect();
        assert!(
            !accepted.is_empty() && accepted.iter().all(|line| line.contains("True")),
            "{told}"
        );
    }
}
