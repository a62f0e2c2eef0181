use super::*;

fn written(manager: Manager) -> String {
    let steps = manager.files(Path::new("/opt/v/vless-rust"), Path::new("/srv/proxy/my.json"));
    let written = steps.into_iter().find_map(|step| match step {
        Step::Write(_, text) => Some(text),
        _ => None,
    });
    written.unwrap()
}

#[test]
fn the_unit_names_this_program_and_configuration() {
    let unit = written(Manager::Systemd);
    assert!(unit.contains("ExecStart=/opt/v/vless-rust run /srv/proxy/my.json\n"), "{unit}");
    assert!(unit.contains("ReadWritePaths=/srv/proxy\n") && !unit.contains("/etc/vless-rust"), "{unit}");
    let script = written(Manager::OpenRc);
    assert!(script.contains("/opt/v/vless-rust") && script.contains("/srv/proxy/my.json"), "{script}");
}

#[test]
fn the_unit_says_what_systemd_has_to_know() {
    for line in [
        "Type=notify",
        "WatchdogSec=30",
        // Whoever can end it once can end it often: it comes back within a second, each time.
        "RestartSec=500ms",
        "StartLimitIntervalSec=0",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "LimitNOFILE=1048576",
        "User=vless-rust",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        // Without netlink the server cannot ask for routes, without Unix sockets nobody can ask the server.
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    ] {
        assert!(UNIT.lines().any(|known| known == line), "{line}");
    }
}

#[test]
fn only_a_folder_that_is_the_servers_own_is_given_away() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = r#"{ "users": [ { "uuid": "example" } ], "log": { "file": "proxy.log" }, "tls": { "enabled": true } }"#;
    let names = ["config.json", "users.json", "users.json.lock", "state.json.previous", "proxy.log.1", "old.tar"];
    for name in names {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::create_dir(folder.join("certs")).unwrap();
    let config = Config::parse(text, &folder.join("config.json")).unwrap();
    assert_eq!(why_not_given_away(&config), None);
    for name in ["passwd", "vless-rust", "ssh", "shadow"] {
        fs::write(folder.join(name), "").unwrap();
    }
    let words = why_not_given_away(&config).unwrap();
    assert_eq!(words.matches(", ").count(), 4, "three are named: {words}");
    let etc = Config::parse(text, Path::new("/etc/config.json")).unwrap();
    assert!(why_not_given_away(&etc).unwrap().starts_with("/etc holds what is not the server's"));
}

#[test]
fn what_the_unit_hides_is_noticed() {
    let found = |path: &str| in_a_home([PathBuf::from("/usr/bin/vless-rust"), path.into()]);
    for path in ["/home/anna/config.json", "/root/config.json", "/run/user/1000/x"] {
        assert_eq!(found(path), Some(path.into()));
    }
    for path in ["/etc/vless-rust/config.json", "/homes/config.json", "/srv/home/config.json"] {
        assert_eq!(found(path), None, "{path}");
    }
    assert!(UNIT.lines().any(|line| line == "ProtectHome=yes"));
}

#[test]
fn an_older_unit_lacks_what_came_later() {
    assert_eq!(lacking(UNIT), Vec::<&str>::new());
    assert_eq!(lacking(&UNIT.replace("WatchdogSec=30", "")), ["WatchdogSec"]);
    assert_eq!(lacking(&UNIT.replace("WatchdogSec=30", "WatchdogSec=60")), Vec::<&str>::new());
}

/// A machine with these files.
fn machine(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    root
}

fn told(files: &[&str]) -> Result<Vec<String>, Failure> {
    let root = machine(files);
    let steps = uninstall(Manager::detect(root.path()), root.path())?;
    Ok(steps.iter().map(Step::words).collect())
}

#[test]
fn whoever_runs_the_machine_is_asked_and_not_whoever_is_installed() {
    for (files, manager) in [
        (&["run/systemd/system/x", "usr/bin/systemctl"][..], Some(Manager::Systemd)),
        (&["usr/bin/systemctl"], Some(Manager::SystemdAsleep)),
        (&["usr/bin/systemctl", "sbin/openrc-run"], Some(Manager::OpenRc)),
        (&[], None),
    ] {
        assert_eq!(Manager::detect(machine(files).path()), manager, "{files:?}");
    }
}

#[test]
fn uninstalling_keeps_configuration_and_user() {
    assert_eq!(
        told(&["run/systemd/system/x", UNIT_PATH, WANTED_PATH]).unwrap(),
        [
            "systemctl disable --now vless-rust",
            "remove /etc/systemd/system/vless-rust.service",
            "remove /etc/systemd/system/multi-user.target.wants/vless-rust.service",
            "systemctl daemon-reload"
        ]
    );
}

#[test]
fn uninstalling_leaves_no_file_where_nobody_starts_services() {
    let unit = "remove /etc/systemd/system/vless-rust.service";
    assert_eq!(told(&["usr/bin/systemctl", UNIT_PATH]).unwrap(), [unit]);
    assert_eq!(told(&[UNIT_PATH]).unwrap(), [unit]);
    assert_eq!(told(&["sbin/openrc-run", UNIT_PATH]).unwrap(), [unit]);
    assert_eq!(told(&["sbin/openrc-run", SCRIPT_PATH]).unwrap().last().unwrap(), "remove /etc/init.d/vless-rust");
    assert_eq!(told(&[]).unwrap_err().code, exit::USAGE);
}

#[test]
fn a_step_that_fails_does_not_keep_the_files() {
    let root = machine(&["unit"]);
    let unit = root.path().join("unit");
    let steps = vec![run(&["false"]), Step::Remove(unit.clone())];
    let failure = uninstalled(steps, Mode::Do).unwrap_err();
    assert!(failure.message.contains("the rest is removed, but `false` failed"), "{failure}");
    assert!(!unit.exists());
}

#[test]
fn files_that_the_user_of_the_service_cannot_read_are_refused_with_the_way_out() {
    let root = machine(&["etc/passwd", "vless/config.json", "keys/leaf.key", "keys/leaf.crt", "bin/vless-rust"]);
    let mode = |path: &str, mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(root.path().join(path), mode).unwrap();
    };
    // The folder that tests get is closed to others.
    for path in ["", "vless", "keys", "bin", "bin/vless-rust", "keys/leaf.crt"] {
        mode(path, 0o755);
    }
    mode("keys/leaf.key", 0o600);
    let file = root.path().join("vless/config.json");
    let text = r#"{ "users": [ { "uuid": "example" } ],
        "tls": { "enabled": true, "cert_file": "../keys/leaf.crt", "key_file": "../keys/leaf.key" } }"#;
    let config = Config::parse(text, &file).unwrap();
    let user = Account::named(USER, root.path());
    let why_not = || why_not(Manager::Systemd, &root.path().join("bin/vless-rust"), &config, &user);
    let words = why_not().unwrap();
    assert!(
        words.starts_with("vless-rust, the user of the service, cannot read ") && words.contains("leaf.key"),
        "{words}"
    );
    assert!(words.contains("setfacl -m u:vless-rust:r ") && words.contains("the hook in conf/README.md"), "{words}");
    mode("keys/leaf.key", 0o644);
    assert_eq!(why_not(), None);
    mode("keys", 0o700);
    let words = why_not().unwrap();
    assert!(words.contains("cannot reach ") && words.contains("/keys keeps it out; "), "{words}");
    mode("keys", 0o755);
    mode("", 0o700);
    assert!(why_not().unwrap().contains("cannot reach "));
}
