use super::*;

use std::os::unix::fs::PermissionsExt;

use crate::app::certs;
use crate::app::init::init_with_defaults;
use crate::app::service::Mode;

/// A server with everything there is: two accounts, totals, a self-signed certificate, and a second one elsewhere.
fn server(folder: &Path, elsewhere: &Path) -> PathBuf {
    let config = folder.join("config.json");
    let created = init_with_defaults(&config).unwrap();
    let main = &created.config.tls.as_ref().unwrap().main;
    fs::copy(&main.cert_file, elsewhere.join("more.crt")).unwrap();
    fs::copy(&main.key_file, elsewhere.join("more.key")).unwrap();
    let (cert, key) = (elsewhere.join("more.crt"), elsewhere.join("more.key"));
    let more = format!("\"certificates\": [ {{ \"cert_file\": {cert:?}, \"key_file\": {key:?} }} ],\n    \"enabled\"");
    let text = fs::read_to_string(&config).unwrap().replacen("\"enabled\"", &more, 1);
    fs::write(&config, text).unwrap();
    fs::write(folder.join("state.json"), "totals").unwrap();
    config
}

/// All files beneath `folder` with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

struct World {
    home: tempfile::TempDir,
    elsewhere: tempfile::TempDir,
    config: PathBuf,
    backup: PathBuf,
}

fn world() -> World {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = server(home.path(), elsewhere.path());
    let backup = elsewhere.path().join("backup.tar");
    super::backup(&config, &backup).unwrap();
    World { home, elsewhere, config, backup }
}

#[test]
fn a_server_comes_back_in_another_folder_byte_by_byte() {
    let world = world();
    assert_eq!(fs::metadata(&world.backup).unwrap().permissions().mode() & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    let target = other.path().join("new/config.json");
    let told = restore(&world.backup, &target, Over::Refuse, Mode::Do).unwrap();
    assert_eq!(told.matches(": new\n").count(), 5, "{told}");
    assert_eq!(told.matches("more.key: as it is\n").count(), 1, "{told}");
    let moved = |(path, bytes): &(PathBuf, Vec<u8>)| {
        (target.parent().unwrap().join(path.strip_prefix(world.home.path()).unwrap()), bytes.clone())
    };
    assert_eq!(contents(other.path()), contents(world.home.path()).iter().map(moved).collect::<Vec<_>>());
    for (path, _) in contents(other.path()) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    let (was, is) = (Config::load(&world.config).unwrap(), Config::load(&target).unwrap());
    assert_eq!((was.users.len(), was.users[0].id), (1, is.users[0].id));
    assert_eq!(certs::load_existing(&is, std::time::SystemTime::now()).unwrap().len(), 2);
}

#[test]
fn a_trial_and_a_refusal_touch_nothing() {
    let world = world();
    let other = tempfile::tempdir().unwrap();
    let told = restore(&world.backup, &other.path().join("config.json"), Over::Refuse, Mode::Tell).unwrap();
    assert!(told.contains("users.json: new\n"), "{told}");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    fs::write(world.home.path().join("users.json"), "changed").unwrap();
    let before = contents(world.home.path());
    let failure = restore(&world.backup, &world.config, Over::Refuse, Mode::Do).unwrap_err();
    assert_eq!(failure.code, exit::CANNOT_CREATE);
    assert!(failure.message.contains("users.json") && failure.message.contains("--force"), "{failure}");
    assert!(!failure.message.contains("config.json,"), "what is the same is not in the way: {failure}");
    assert_eq!(contents(world.home.path()), before);
}

#[test]
fn what_had_to_make_way_is_kept() {
    let world = world();
    let users = world.home.path().join("users.json");
    let original = fs::read(&users).unwrap();
    fs::write(&users, "changed").unwrap();
    fs::remove_file(world.elsewhere.path().join("more.key")).unwrap();
    let told = restore(&world.backup, &world.config, Over::Replace, Mode::Do).unwrap();
    assert!(told.contains("users.json: replaced; the old one is kept as "), "{told}");
    assert_eq!(fs::read(&users).unwrap(), original);
    assert_eq!(fs::read(world.home.path().join("users.json.before-restore")).unwrap(), b"changed");
    assert!(world.elsewhere.path().join("more.key").exists());
}

#[test]
fn a_failure_in_the_middle_leaves_everything_as_it_was() {
    let world = world();
    fs::write(world.home.path().join("users.json"), "changed").unwrap();
    fs::write(world.home.path().join("config.json"), "changed").unwrap();
    // The old users file cannot be kept: a folder that is not empty has the name.
    let in_the_way = world.home.path().join("users.json.before-restore/x");
    fs::create_dir_all(&in_the_way).unwrap();
    fs::remove_file(world.elsewhere.path().join("more.key")).unwrap();
    let before = (contents(world.home.path()), contents(world.elsewhere.path()));
    let failure = restore(&world.backup, &world.config, Over::Replace, Mode::Do).unwrap_err();
    assert!(failure.message.contains("users.json"), "{failure}");
    assert_eq!((contents(world.home.path()), contents(world.elsewhere.path())), before);
}

#[test]
fn what_no_server_could_serve_is_not_restored() {
    let world = world();
    let other = tempfile::tempdir().unwrap();
    let target = other.path().join("config.json");
    let good = Backup::decode(&fs::read(&world.backup).unwrap()).unwrap();
    for (role, contents, why) in [
        (Role::Config, &b"{ \"port\": 5 }"[..], "unknown key"),
        (Role::Config, b"\xff", "no text"),
        (Role::Users, b"{ \"users\": 5 }", "users"),
    ] {
        let mut bad = good.clone();
        bad.files.iter_mut().find(|file| file.role == role).unwrap().contents = contents.to_vec();
        let file = other.path().join("bad.tar");
        fs::write(&file, bad.encode().unwrap()).unwrap();
        let failure = restore(&file, &target, Over::Replace, Mode::Do).unwrap_err();
        assert_eq!(failure.code, exit::CONFIG, "{failure}");
        assert!(failure.message.contains(why), "{failure}");
        assert!(!target.exists());
    }
}

#[test]
fn a_backup_never_replaces_a_file_and_needs_a_configuration() {
    let world = world();
    assert_eq!(backup(&world.config, &world.backup).unwrap_err().code, exit::CANNOT_CREATE);
    let failure = backup(&world.home.path().join("other.json"), &world.elsewhere.path().join("b")).unwrap_err();
    assert_eq!(failure.code, exit::NO_INPUT);
}

#[test]
fn what_a_node_keeps_of_its_cluster_stays_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    init_with_defaults(&config).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen('{', "{ \"cluster\": { \"url\": \"redis://127.0.0.1:6379/0\" },", 1)).unwrap();
    fs::create_dir(folder.path().join("cluster")).unwrap();
    fs::write(folder.path().join("cluster/journal.json"), "counted, and not told").unwrap();
    let file = folder.path().join("backup.tar");
    let told = backup(&config, &file).unwrap();
    assert!(told.lines().any(|line| line.starts_with("left out: ") && line.contains("/cluster, ")), "{told}");
    let files = Backup::decode(&fs::read(&file).unwrap()).unwrap().files;
    assert!(!files.is_empty() && files.iter().all(|file| !file.path.contains("cluster")));
}

#[test]
fn a_configuration_in_the_working_directory_is_in_the_folder() {
    let stored = |path: &str| stored_path(Path::new("config.json"), Path::new(path)).unwrap();
    assert_eq!([stored("config.json"), stored("./certs/a.crt")], ["config.json", "certs/a.crt"]);
    assert_eq!(stored("/etc/hosts"), "/etc/hosts");
}

/// `tests/backup/form-1.tar` was written by version 0.1.0; whatever becomes of the program, it must go on reading it.
#[test]
fn the_first_form_can_still_be_read() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backup/form-1.tar");
    let other = tempfile::tempdir().unwrap();
    let target = other.path().join("config.json");
    restore(&file, &target, Over::Refuse, Mode::Do).unwrap();
    let config = Config::load(&target).unwrap();
    let names: Vec<_> = config.users.iter().map(|user| user.email.as_str()).collect();
    assert_eq!(names, ["locked@example.com", "anna@example.com"]);
    let saved = crate::control::state::file::load(&config.monitoring.state_file, 0);
    assert_eq!((saved.saved.upload_bytes, saved.warnings.len()), (12_345, 0));
    assert_eq!(fs::read_to_string(other.path().join("certs/server.key")).unwrap(), "stands for a key\n");
}

#[test]
fn what_is_missing_is_said_unless_it_is_no_loss() {
    let world = world();
    fs::remove_file(world.home.path().join("certs/server.key")).unwrap();
    fs::remove_file(world.home.path().join("state.json")).unwrap();
    let told = backup(&world.config, &world.elsewhere.path().join("second.tar")).unwrap();
    let left_out: Vec<_> = told.lines().filter(|line| line.starts_with("left out: ")).collect();
    assert_eq!(left_out.len(), 1, "{told}");
    assert!(left_out[0].ends_with("certs/server.key, which is not there"), "{told}");
}
