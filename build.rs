//! Embeds the browser client, if `./dev setup` has fetched it, into the pages. Without it everything builds too; the page then names the command.

use std::path::Path;
use std::{env, fs};

const PAGES: &str = "src/http/pages";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The folder above: a watched path that does not exist would run this, and build the crate again, every time.
    println!("cargo::rerun-if-changed={PAGES}");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let code = [("CENTRIFUGE_JS", "centrifuge.js"), ("CENTRIFUGE_LICENSE", "centrifuge.LICENSE")]
        .map(|(name, file)| {
            let path = Path::new(&root).join(PAGES).join("vendor").join(file);
            let value = if path.is_file() { format!("Some(include_bytes!({path:?}))") } else { "None".to_owned() };
            format!("pub(super) const {name}: Option<&[u8]> = {value};\n")
        })
        .concat();
    let target = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("vendor.rs");
    fs::write(&target, code).unwrap_or_else(|error| panic!("cannot write {}: {error}", target.display()));
}
