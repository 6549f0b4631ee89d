//! The shape of the source: who imports whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Modules by path (`shard/home/room`; a folder's `mod.rs` is the folder), with the modules that they name.
struct Imports(BTreeMap<String, BTreeSet<String>>);

impl Imports {
    fn read() -> Imports {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut texts = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder of src/") {
                let path = entry.expect("an entry of src/").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let module = path.strip_prefix(&root).expect("below src/").with_extension("").display().to_string();
                    let module = module.strip_suffix("/mod").unwrap_or(&module).to_owned();
                    texts.insert(module, code(&fs::read_to_string(&path).expect("a source file")));
                }
            }
        }
        let modules: BTreeSet<String> = texts.keys().cloned().collect();
        let imports = texts.iter().map(|(module, text)| {
            let named = paths(text).iter().filter_map(|path| resolve(path, module, &modules)).filter(|named| named != module).collect();
            (module.clone(), named)
        });
        Imports(imports.collect())
    }

    /// The same between folders.
    fn folders(&self) -> Imports {
        let folder = |module: &str| module.split('/').next().unwrap_or_default().to_owned();
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, named) in &self.0 {
            let from = folder(module);
            imports.entry(from.clone()).or_default().extend(named.iter().map(|named| folder(named)).filter(|to| *to != from));
        }
        Imports(imports)
    }

    /// A module may name what is in its own folder's `mod.rs`, which names it too: that is no circle.
    fn without_parents(mut self) -> Imports {
        for (module, named) in &mut self.0 {
            named.retain(|named| !module.starts_with(&format!("{named}/")));
        }
        self
    }

    /// What is left when, again and again, all that names nothing left is taken away: the circles, and who leads to one.
    fn circles(mut self) -> BTreeMap<String, BTreeSet<String>> {
        loop {
            let left: BTreeSet<String> = self.0.keys().cloned().collect();
            for named in self.0.values_mut() {
                named.retain(|named| left.contains(named));
            }
            let before = self.0.len();
            self.0.retain(|_, named| !named.is_empty());
            if self.0.len() == before {
                return self.0;
            }
        }
    }
}

/// A file without comments and its unit tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path that a file names from `crate` or `super`, in `use` trees and in code.
fn paths(text: &str) -> Vec<String> {
    let is_path = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
    let mut paths = Vec::new();
    for statement in text.split("use ").skip(1) {
        expand("", statement.split(';').next().unwrap_or_default(), &mut paths);
    }
    for root in ["crate::", "super::"] {
        for (place, _) in text.match_indices(root) {
            let rest = &text[place..];
            paths.push(rest[..rest.find(|letter| !is_path(letter)).unwrap_or(rest.len())].to_owned());
        }
    }
    paths.retain(|path| path.starts_with("crate::") || path.starts_with("super::"));
    paths
}

/// `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn expand(before: &str, tree: &str, paths: &mut Vec<String>) {
    let Some(open) = tree.find('{') else {
        paths.push(format!("{before}{}", tree.split(" as ").next().unwrap_or_default().trim()));
        return;
    };
    let before = format!("{before}{}", tree[..open].trim());
    let (mut depth, mut from) = (0, open + 1);
    for (place, letter) in tree.char_indices().skip_while(|(place, _)| *place < open) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (letter == ',' && depth == 1) || depth == 0 {
            if !tree[from..place].trim().is_empty() {
                expand(&before, tree[from..place].trim(), paths);
            }
            from = place + 1;
        }
        if depth == 0 {
            return;
        }
    }
}

/// The module that a path leads into.
fn resolve(path: &str, module: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut here: Vec<&str> = module.split('/').collect();
    let mut steps = path.split("::").map(str::trim).peekable();
    if steps.next_if_eq(&"crate").is_some() {
        here.clear();
    }
    while steps.next_if_eq(&"super").is_some() {
        here.pop();
    }
    let mut found = None;
    for step in std::iter::once("").chain(steps) {
        if !step.is_empty() {
            here.push(step);
        }
        let candidate = here.join("/");
        if modules.contains(&candidate) {
            found = Some(candidate);
        }
    }
    found
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    let imports = Imports::read();
    assert!(imports.0["executor/driver"].contains("executor/hands") && imports.0["net/host"].contains("shard"), "imports are understood");
    let circles = imports.without_parents().circles();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn no_two_folders_import_each_other_in_a_circle() {
    let circles = Imports::read().folders().circles();
    assert!(circles.is_empty(), "{circles:#?}");
}
