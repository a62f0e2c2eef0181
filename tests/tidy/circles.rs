//! No module uses another that uses it, but for a type and its own parts.
//!
//! A part may look up to the module that it is inside of, whose type it implements. Every other use is a step, also that
//! from a module to its parts; steps must not lead back to where they began. Who passes a name on for others is looked
//! through: what counts is the module that the name comes from.

use std::collections::BTreeSet;

use crate::tree::Tree;

/// Modules in circles that are still to be opened, one of each circle.
const STILL_THERE: &[&str] = &[];

#[test]
fn modules_use_each_other_in_one_direction() {
    let circles = circles(&Tree::shipped());
    let is_known = |circle: &Vec<String>| STILL_THERE.iter().any(|&name| circle.iter().any(|module| module == name));
    let new: Vec<_> = circles.iter().filter(|circle| !is_known(circle)).map(|circle| circle.join(" <-> ")).collect();
    assert!(new.is_empty(), "\n{}", new.join("\n"));
    let gone = STILL_THERE.iter().filter(|&&name| !circles.iter().flatten().any(|module| module == name));
    assert_eq!(gone.count(), 0, "a circle has gone; strike it off the list");
}

/// Modules that lead to each other, by name.
fn circles(tree: &Tree) -> Vec<Vec<String>> {
    let steps: Vec<_> = (0..tree.modules.len()).map(|module| steps(tree, module)).collect();
    let reach: Vec<_> = (0..steps.len()).map(|module| reach(&steps, module)).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for module in 0..steps.len() {
        let circle: BTreeSet<_> =
            reach[module].iter().copied().filter(|&other| reach[other].contains(&module)).collect();
        if !circle.is_empty() && seen.insert(circle.clone()) {
            found.push(circle.into_iter().map(|module| tree.modules[module].name()).collect());
        }
    }
    found
}

/// The modules that one uses, but for those around it.
fn steps(tree: &Tree, module: usize) -> BTreeSet<usize> {
    let own = &tree.modules[module];
    let targets = own.written.iter().filter_map(|written| tree.target(module, written));
    let used = targets.map(|target| tree.module_of(&target));
    used.filter(|&other| !own.path.starts_with(&tree.modules[other].path)).collect()
}

/// Where the steps from a module lead, at last.
fn reach(steps: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<_> = steps[from].iter().copied().collect();
    while let Some(module) = open.pop() {
        if found.insert(module) {
            open.extend(&steps[module]);
        }
    }
    found
}

mod planted {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files: Vec<_> =
            [("lib.rs", "")].iter().chain(files).map(|&(place, text)| (place.to_owned(), text)).collect();
        circles(&Tree::new(&files))
    }

    #[test]
    fn two_that_use_each_other() {
        let files = [("a.rs", "use crate::b::B;\n"), ("b.rs", "fn f() -> super::a::A { todo!() }\n")];
        assert_eq!(found(&files), [["a", "b"]]);
        assert_eq!(found(&[("a.rs", "use crate::b::B;\n"), ("b.rs", "")]).len(), 0);
    }

    #[test]
    fn a_way_round_over_others() {
        let files = [
            ("a.rs", "use crate::b;\n"),
            ("b.rs", "use crate::c;\n"),
            ("c.rs", "use crate::a;\n"),
            ("d.rs", "use crate::a;"),
        ];
        assert_eq!(found(&files), [["a", "b", "c"]]);
    }

    #[test]
    fn parts_of_one_type_that_use_each_other() {
        let head = ("a.rs", "mod b;\nmod c;\npub struct A(b::B);\n");
        let looking_up = [head, ("a/b.rs", "use super::A;\nuse super::c::C;\n"), ("a/c.rs", "use super::A;\n")];
        assert_eq!(found(&looking_up).len(), 0);
        let round = [head, ("a/b.rs", "use super::c::C;\n"), ("a/c.rs", "impl super::A { fn f(b: super::b::B) {} }\n")];
        assert_eq!(found(&round), [["a::b", "a::c"]]);
    }

    #[test]
    fn a_name_that_is_passed_on() {
        let head = ("a.rs", "mod b;\nmod c;\npub use self::b::B;\npub(crate) use c::{self, C as D};\n");
        let files = [head, ("a/b.rs", "use super::D;\n"), ("a/c.rs", "use crate::a::B;\n")];
        assert_eq!(found(&files), [["a::b", "a::c"]]);
    }

    #[test]
    fn an_outsider_that_a_part_uses() {
        let files = [("a.rs", "mod b;\n"), ("a/b.rs", "use crate::c;\n"), ("c.rs", "use crate::a::A;\n")];
        assert_eq!(found(&files), [["a", "a::b", "c"]]);
    }

    #[test]
    fn nothing_in_tests() {
        let files = [("a.rs", "use crate::b::B;\n"), ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }\n")];
        assert_eq!(found(&files).len(), 0);
        let files =
            [("a.rs", "use crate::b;\n"), ("b.rs", "#[cfg(test)]\nmod tests;\n"), ("b/tests.rs", "use crate::a;\n")];
        assert_eq!(found(&files).len(), 0);
    }
}
