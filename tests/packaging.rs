//! What is given to others is made and checked by scripts. They run here with a stand-in for the binary, so that neither
//! they nor the files that they name can rot.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// As much of the program as the scripts ask for.
const STAND_IN: &str = "#!/bin/sh\ncase $1 in version) echo 'vless-rust 0' ;; *) echo \"stands for $*\" ;; esac\n";

#[test]
fn packages_are_made_and_do_what_they_promise() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("stand-in");
    fs::write(&program, STAND_IN).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/packaging/check");
    let output = Command::new(check).arg("--with").arg(&program).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.contains("packages are right"), "{said}");
    println!("{said}");
}
