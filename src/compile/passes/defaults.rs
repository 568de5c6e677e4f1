//! The installation's default certificates: its settings name their Secrets, as objects name theirs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Compilation;
use crate::compile::Previous;
use crate::compile::intent::Reference;
use crate::compile::references::User;
use crate::hostname::HostName;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::tls::Certificate;

impl Compilation<'_> {
    /// The installation's settings name Secrets too. Returns whether they name others than before.
    pub(super) fn refer_to_defaults(&mut self) -> bool {
        let Previous {
            materials,
            default_secrets,
            ..
        } = &mut self.memory;
        if *default_secrets == self.routing.default_tls_secrets {
            return false;
        }
        for key in &self.routing.default_tls_secrets {
            materials.add_user(&Reference::Certificate(secret(key)), User::Installation);
        }
        for key in default_secrets
            .iter()
            .filter(|key| !self.routing.default_tls_secrets.contains(key))
        {
            materials.remove_user(&Reference::Certificate(secret(key)), &User::Installation);
        }
        *default_secrets = self.routing.default_tls_secrets.clone();
        true
    }

    /// The default certificates go into the snapshot. They are nobody's in particular, so what is wrong with them is told
    /// to the operator, if it is something else than before.
    pub(super) fn keep_defaults(&mut self) -> Option<Vec<String>> {
        let mut certificates: Vec<Arc<Certificate>> = Vec::new();
        let mut problems = Vec::new();
        for key in &self.memory.default_secrets {
            let secret = secret(key);
            let Some(found) = self.memory.materials.certificate(&secret) else {
                continue;
            };
            let leaf = found.part.as_ref();
            if let Some(problem) = &found.problem {
                let instead = leaf.map_or("", |_| "; its last good version is used");
                problems.push(format!("default certificate: {secret} {problem}{instead}"));
            }
            certificates.extend(leaf.map(|leaf| leaf.certificate.clone()));
        }
        let snapshot = &mut self.memory.snapshot;
        if *snapshot.default_certificates != *certificates {
            let names = |list: &[Arc<Certificate>]| -> BTreeSet<HostName> {
                list.iter()
                    .flat_map(|certificate| certificate.names.iter().cloned())
                    .collect()
            };
            // Who has none of its own is told whether a default one covers it.
            if names(&certificates) != names(&snapshot.default_certificates) {
                self.reached.reports.extend(self.memory.objects.keys().cloned());
            }
            snapshot.default_certificates = certificates.into();
            self.changed = true;
        }
        if problems == self.memory.default_problems {
            return None;
        }
        self.memory.default_problems.clone_from(&problems);
        Some(problems)
    }
}

fn secret(key: &ObjectKey) -> ObjectId {
    ObjectId::new(Kind::Secret, key.clone())
}
