//! The crate's source as modules that use each other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tokens::{Kind, Token, Written, paths, split, tokens};

/// The root of the package.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the package, with their text.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// A path from `src/`, with slashes.
pub(crate) fn inside_src(path: &Path) -> String {
    path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned()
}

/// One file that ships.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its path below `src/`.
    pub(crate) place: String,
    /// Names from the root of the crate down to it, none for the root itself.
    pub(crate) path: Vec<String>,
    /// What it says outside of its tests, without comments.
    pub(crate) code: Vec<Token>,
    pub(crate) written: Vec<Written>,
}

impl Module {
    pub(crate) fn name(&self) -> String {
        self.path.join("::")
    }

    /// A path that is written here as one from the root of the crate; `None`: it leads to another crate, or is a name
    /// that nobody can tell without a compiler.
    pub(crate) fn absolute(&self, written: &Written) -> Option<Vec<String>> {
        let segments = &written.segments[..];
        let own = [&self.path[..], &written.inside[..]].concat();
        match segments.first()?.as_str() {
            "crate" => Some(segments[1..].to_vec()),
            "self" => Some([&own[..], &segments[1..]].concat()),
            "super" => {
                let up = segments.iter().take_while(|&segment| segment == "super").count();
                let above = &own[..own.len().checked_sub(up)?];
                Some([above, &segments[up..]].concat())
            }
            _ => None,
        }
    }
}

/// All files that ship.
pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
    by_path: BTreeMap<Vec<String>, usize>,
    /// What a module makes known under a name of its own: module and name, to what it stands for.
    re_exports: BTreeMap<(usize, String), Vec<String>>,
}

impl Tree {
    /// The tree of this package.
    pub(crate) fn shipped() -> Self {
        let files = sources("src");
        let files: Vec<_> = files.iter().map(|(path, text)| (inside_src(path), text.as_str())).collect();
        Self::new(&files)
    }

    /// The tree of these files, given by their paths below `src/`. Files that are modules of tests are left out.
    pub(crate) fn new(files: &[(String, &str)]) -> Self {
        let mut modules = Vec::new();
        let mut for_tests = Vec::new();
        for (place, text) in files {
            let path = module_path(place);
            let split = split(&tokens(text));
            for item in &split.for_tests {
                for_tests.extend(declared_file(place, &path, item));
            }
            modules.push(Module { place: place.clone(), written: paths(&split.shipped), code: split.shipped, path });
        }
        modules.retain(|module| {
            !for_tests.iter().any(|test| match test {
                TestFile::Module(path) => module.path.starts_with(path),
                TestFile::Place(place) => module.place == *place,
            })
        });
        let by_path = modules.iter().enumerate().map(|(index, module)| (module.path.clone(), index)).collect();
        let mut tree = Self { modules, by_path, re_exports: BTreeMap::new() };
        for (index, module) in tree.modules.iter().enumerate() {
            for written in &module.written {
                if let Kind::Imported { name, is_public: true } = &written.kind
                    && let Some(target) = tree.target(index, written)
                {
                    tree.re_exports.insert((index, name.clone()), target);
                }
            }
        }
        tree
    }

    /// What a path leads to inside the crate, as it is written.
    pub(crate) fn target(&self, module: usize, written: &Written) -> Option<Vec<String>> {
        let module = &self.modules[module];
        module.absolute(written).or_else(|| {
            // A module may name those inside it without `self`.
            let child = [&module.path[..], &written.inside[..], &written.segments[..1]].concat();
            let is_child = self.by_path.contains_key(&child);
            is_child.then(|| [&module.path[..], &written.inside[..], &written.segments[..]].concat())
        })
    }

    /// The module that a path from the root leads into; names that a module only passes on are followed to their origin.
    pub(crate) fn module_of(&self, path: &[String]) -> usize {
        let mut path = path.to_vec();
        // Passed on from one to the next, but not for ever.
        for _ in 0..16 {
            let (module, depth) = self.deepest(&path);
            let Some(name) = path.get(depth) else { return module };
            let Some(origin) = self.re_exports.get(&(module, name.clone())) else { return module };
            path = [&origin[..], &path[depth + 1..]].concat();
        }
        self.deepest(&path).0
    }

    /// The last module on a path, and how many segments lead to it.
    fn deepest(&self, path: &[String]) -> (usize, usize) {
        let mut depths = (0..=path.len()).rev();
        let found = depths.find_map(|depth| self.by_path.get(&path[..depth]).map(|&module| (module, depth)));
        found.expect("the root is a module")
    }
}

enum TestFile {
    Module(Vec<String>),
    Place(String),
}

/// The file of a `mod x;` among an item for tests.
fn declared_file(place: &str, path: &[String], item: &[Token]) -> Option<TestFile> {
    let declared = paths(item).into_iter().find(|written| written.kind == Kind::Declared)?;
    let elsewhere = item.iter().position(|token| token.is("path")).and_then(|at| item.get(at + 2));
    if let Some(Token::Text(file)) = elsewhere {
        let folder = Path::new(place).parent().unwrap();
        return Some(TestFile::Place(folder.join(file).to_string_lossy().into_owned()));
    }
    Some(TestFile::Module([path, &declared.segments[1..]].concat()))
}

/// `session/mux/obey.rs` is `session::mux::obey`, `session.rs` is `session`, `lib.rs` the root.
pub(crate) fn module_path(place: &str) -> Vec<String> {
    let names = place.trim_end_matches(".rs").split('/').map(str::to_owned);
    let mut path: Vec<_> = names.collect();
    if path.last().is_some_and(|last| last == "mod") || place == "lib.rs" {
        path.pop();
    }
    path
}
