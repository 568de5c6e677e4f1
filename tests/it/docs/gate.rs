//! What contributors run by name is what `.ci/run` has.

use std::collections::BTreeSet;
use std::fs;

use crate::support::documentation::root;

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect("reads")
}

#[test]
fn the_justfile_has_a_recipe_for_each_step_of_the_gate() {
    let gate = read(".ci/run");
    let steps: BTreeSet<_> = gate
        .lines()
        .filter_map(|line| Some(line.strip_prefix("step_")?.split_once("()")?.0))
        .collect();
    assert!(steps.len() > 10, "{steps:?}");
    let recipes = read("justfile");
    let run: BTreeSet<_> = recipes
        .lines()
        .filter_map(|line| line.strip_prefix("    .ci/run "))
        .collect();
    assert_eq!(run, steps);
    for step in steps {
        assert!(recipes.contains(&format!("\n{step}:\n")), "no recipe is named {step}");
    }
}
