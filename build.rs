//! Puts the files of the page into the binary, plain and compressed, under a name that changes with their content.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

fn main() {
    println!("cargo::rerun-if-changed=static");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to build"));
    let mut files = Vec::new();
    collect(Path::new("static"), &mut files);
    files.sort();
    let contents: Vec<_> = files.iter().map(|path| (name(path), fs::read(path).expect("a file of static/"))).collect();
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    let version = format!("{:016x}", hasher.finish());
    let mut code = format!("pub const VERSION: &str = \"{version}\";\npub const FILES: &[File] = &[\n");
    for (number, (name, content)) in contents.into_iter().enumerate() {
        let content = if Path::new(&name).extension().is_some_and(|ending| ending == "html") {
            link_versions(&content, &version)
        } else {
            content
        };
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let plain = out.join(format!("asset-{number}"));
        let gzip = out.join(format!("asset-{number}.gz"));
        fs::write(&plain, &content).expect("OUT_DIR takes files");
        fs::write(&gzip, compressed(&content)).expect("OUT_DIR takes files");
        writeln!(
            code,
            "File {{ name: {name:?}, tag: \"\\\"{:016x}\\\"\", plain: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            hasher.finish(),
            plain.to_string_lossy(),
            gzip.to_string_lossy()
        )
        .expect("a string takes text");
    }
    code.push_str("];\n");
    fs::write(out.join("assets.rs"), code).expect("OUT_DIR takes files");
}

/// All files that a browser may ask for. Types and notes are for people.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.to_string_lossy();
        if path.is_dir() {
            collect(&path, files);
        } else if !name.ends_with(".d.ts") && !name.ends_with(".md") {
            files.push(path);
        }
    }
}

fn name(path: &Path) -> String {
    let name = path.strip_prefix("static").expect("collected below it");
    name.to_string_lossy().replace('\\', "/")
}

/// The page asks for its files under the versioned folder; they find each other by relative names.
fn link_versions(html: &[u8], version: &str) -> Vec<u8> {
    let html = String::from_utf8(html.to_vec()).expect("pages are UTF-8");
    html.replace("\"/static/", &format!("\"/static/{version}/")).into_bytes()
}

/// Without a time stamp, so that equal files give equal binaries.
fn compressed(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory takes bytes");
    encoder.finish().expect("memory takes bytes")
}
