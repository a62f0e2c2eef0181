use super::*;

use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use crate::app::firewall::Firewall;
use crate::app::init::init_with_defaults;
use crate::app::port_holder::Holder;

const UNIT: &str = "etc/systemd/system/vless-rust.service";

/// A machine on which ports are as a test says.
struct Ports(Result<(), PortProblem>);

impl Machine for Ports {
    fn try_port(&self, _: IpAddr, _: u16) -> Result<(), PortProblem> {
        self.0.clone()
    }

    fn source_address(&self) -> Option<IpAddr> {
        None
    }

    fn firewall(&self) -> Firewall {
        Firewall::None
    }

    fn is_root(&self) -> bool {
        false
    }

    fn terminal(&self) -> Option<(usize, usize)> {
        None
    }

    fn program(&self) -> String {
        "vless-rust".to_owned()
    }
}

/// A healthy machine with a configuration of ours, and a name server that answers.
struct Healthy {
    folder: tempfile::TempDir,
    ports: Ports,
    now: SystemTime,
}

impl Healthy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        init_with_defaults(&config).unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = dns.local_addr().unwrap();
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((count, from)) = dns.recv_from(&mut question) {
                let _ = dns.send_to(&question[..count], from);
            }
        });
        let machine = Self { folder, ports: Ports(Ok(())), now: SystemTime::now() };
        let dns = format!("\"outbound\": {{ \"dns\": {{ \"servers\": [\"{address}\"] }} }},\n  ");
        let server = dns + "\"server\": { \"public_ip\": \"1.1.1.1\",";
        machine.replace("config.json", "\"server\": {", &server);
        for (path, text) in [
            (
                "proc/self/limits",
                "Limit  Soft  Hard  Units\nMax open files            1024                 1048576              files\n",
            ),
            ("proc/sys/net/ipv4/tcp_congestion_control", "bbr\n"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n"),
            (UNIT, include_str!("../../../conf/vless-rust.service")),
            ("usr/local/bin/vless-rust", ""),
        ] {
            machine.write(path, text);
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let path = self.folder.path().join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.folder.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        let config = self.folder.path().join("config.json");
        let root = self.folder.path().to_owned();
        examine(&Place { config: &config, root, machine: &self.ports, now: self.now })
    }

    fn faults(&self) -> Vec<Finding> {
        self.findings().into_iter().filter(|finding| finding.weight == Weight::Fault).collect()
    }
}

#[test]
fn a_healthy_machine_has_no_fault() {
    let machine = Healthy::new();
    assert_eq!(machine.faults(), Vec::new());
    let text = words(&machine.findings());
    assert!(text.ends_with("\nnothing is wrong\n") && text.contains("days left"), "{text}");
}

#[test]
fn every_planted_fault_is_found_with_a_remedy() {
    type Plant = fn(&mut Healthy);
    let taken = |machine: &mut Healthy| {
        machine.ports = Ports(Err(PortProblem::Taken(Some(Holder { name: "nginx".into(), pid: 7 }))));
    };
    let plants: &[(&str, Plant)] = &[
        ("cannot read", |m| fs::remove_file(m.folder.path().join("config.json")).unwrap()),
        ("config.json:", |m| m.replace("config.json", "\"port\"", "\"prot\"")),
        ("others may read", |m| m.mode("config.json", 0o644)),
        ("taken by nginx (process 7)", taken),
        ("needs root", |m| m.ports = Ports(Err(PortProblem::NeedsRoot))),
        ("does not have the address", |m| m.ports = Ports(Err(PortProblem::NotMine))),
        ("is missing, but", |m| fs::remove_file(m.folder.path().join("certs/server.key")).unwrap()),
        ("certificate: ", |m| m.write("certs/server.crt", "no certificate\n")),
        ("expired", |m| m.now += Duration::from_secs(11 * 365 * 86_400)),
        ("it is the private key", |m| m.mode("certs/server.key", 0o640)),
        ("clock", |m| m.now = UNIX_EPOCH + Duration::from_secs(1_000_000_000)),
        ("at most 1024 descriptors", |m| m.replace("proc/self/limits", "1048576", "1024")),
        ("tcp_rmem", |m| m.write("proc/sys/net/ipv4/tcp_rmem", "4096 65536 131072\n")),
        ("tcp_wmem", |m| m.write("proc/sys/net/ipv4/tcp_wmem", "4096 65536 131072\n")),
        ("somaxconn", |m| m.write("proc/sys/net/core/somaxconn", "128\n")),
        ("which does not exist", |m| fs::remove_file(m.folder.path().join("usr/local/bin/vless-rust")).unwrap()),
        ("no LimitNOFILE", |m| m.replace(UNIT, "LimitNOFILE", "#")),
        ("not of Type=notify", |m| m.replace(UNIT, "Type=notify", "Type=simple")),
        ("cannot see /root/config.json", |m| m.replace(UNIT, "run /etc/vless-rust", "run /root")),
        ("is no state file", |m| m.write("state.json", "{ torn")),
    ];
    let mut found = 0;
    for (said, plant) in plants {
        let mut machine = Healthy::new();
        plant(&mut machine);
        let faults = machine.faults();
        let fault = faults.iter().find(|fault| fault.what.contains(said));
        assert!(fault.is_some_and(|fault| !fault.remedy.is_empty()), "{said}: {faults:?}");
        found += 1;
    }
    assert!(found >= 15);
}

/// The service of this configuration, whose user may read all of it.
fn serviced() -> Healthy {
    let machine = Healthy::new();
    let config = machine.folder.path().join("config.json").display().to_string();
    machine.replace(UNIT, "/etc/vless-rust/config.json", &config);
    let own = fs::metadata(&config).unwrap();
    let account = format!("vless-rust:x:{}:{}::/:/x\n", own.uid(), own.gid());
    machine.write("etc/passwd", &account);
    machine
}

#[test]
fn a_key_that_the_user_of_the_service_cannot_read_is_found() {
    let machine = serviced();
    assert_eq!(machine.faults(), Vec::new());
    // As when root has copied files there: they are nobody else's.
    machine.write("etc/passwd", "vless-rust:x:70001:70001::/:/x\n");
    for (path, mode) in [("", 0o755), ("config.json", 0o644), ("certs", 0o755)] {
        machine.mode(path, mode);
    }
    let faults = machine.faults();
    let fault = faults.iter().find(|fault| fault.what.contains("cannot read") && fault.what.contains("server.key"));
    let remedy = format!("chown -R vless-rust: {}", machine.folder.path().display());
    assert!(fault.is_some_and(|fault| fault.remedy.contains(&remedy)), "{faults:?}");
    // Elsewhere the folder is not the service's to have.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["server.crt", "server.key"] {
        fs::rename(machine.folder.path().join("certs").join(name), elsewhere.path().join(name)).unwrap();
        let named = format!("\"{}\"", elsewhere.path().join(name).display());
        machine.replace("config.json", &format!("\"certs/{name}\""), &named);
    }
    let faults = machine.faults();
    let fault = faults.iter().find(|fault| fault.what.contains("cannot reach") && fault.what.contains("server.key"));
    assert!(fault.is_some_and(|fault| fault.remedy.contains("setfacl -m u:vless-rust:x ")), "{faults:?}");
}

#[test]
fn each_kind_of_wrong_configuration_has_its_own_remedy() {
    let remedy = |plant: fn(&Healthy)| {
        let machine = Healthy::new();
        plant(&machine);
        let faults = machine.faults();
        assert!(faults[0].what.starts_with("configuration: "), "{faults:?}");
        faults[0].remedy.clone()
    };
    let missing = remedy(|m| fs::remove_file(m.folder.path().join("config.json")).unwrap());
    assert!(missing.contains("begin with `vless-rust init "), "{missing}");
    let misspelt = remedy(|m| m.replace("config.json", "\"port\"", "\"prot\""));
    let torn = remedy(|m| m.write("config.json", "{"));
    let users = remedy(|m| m.write("users.json", "{"));
    for wrong in [misspelt, torn, users] {
        assert!(wrong.starts_with("mend the file where the message says") && !wrong.contains("init"), "{wrong}");
    }
    let folder = remedy(|m| {
        fs::remove_file(m.folder.path().join("config.json")).unwrap();
        fs::create_dir(m.folder.path().join("config.json")).unwrap();
    });
    assert_eq!(folder, "name a file that can be read (-c FILE)");
    let closed = Failure::new(exit::NO_PERMISSION, "cannot read");
    assert!(super::remedy(Path::new("x"), &closed).contains("as root"));
}

#[test]
fn a_unit_of_an_earlier_version_is_a_hint() {
    let machine = Healthy::new();
    machine.replace(UNIT, "WatchdogSec=30\n", "");
    let hints = machine.findings();
    let hint = hints.iter().find(|hint| hint.what.contains("its unit lacks WatchdogSec"));
    assert!(hint.is_some_and(|hint| hint.weight == Weight::Hint && hint.remedy.contains("service install")));
}

#[test]
fn a_name_server_that_keeps_silent_is_found() {
    let machine = Healthy::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = fs::read_to_string(machine.folder.path().join("config.json")).unwrap();
    let (before, rest) = text.split_once("\"servers\": [\"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    let address = silent.local_addr().unwrap();
    machine.write("config.json", &format!("{before}\"servers\": [\"{address}\"{after}"));
    assert!(machine.faults().iter().any(|fault| fault.what.contains("does not answer")));
}

#[test]
fn the_report_has_no_secret_in_it() {
    let machine = Healthy::new();
    let path = machine.folder.path().join("config.json");
    let config = Config::load(&path).unwrap();
    let mut secrets = secrets(&config);
    assert!(secrets.len() >= 2);
    secrets.push(fs::read_to_string(machine.folder.path().join("certs/server.key")).unwrap());
    // Also where the secret is in a wrong place, and where it stands in a file's name.
    machine.replace("config.json", "\"listen\": \"0.0.0.0\"", "\"listen\": \"0.0.0.0\", \"workers\": 999");
    for report in [words(&machine.findings()), words(&Healthy::new().findings())] {
        assert!(secrets.iter().all(|secret| !report.contains(secret.as_str())), "{report}");
    }
    for wrong in ["\"workers\": \"t0ken-of-ours\"", "\"t0ken-of-ours\": 1"] {
        let machine = Healthy::new();
        machine.replace("config.json", "\"listen\": \"0.0.0.0\"", &format!("\"listen\": \"0.0.0.0\", {wrong}"));
        let report = words(&machine.findings());
        assert!(report.contains("config.json:") && !report.contains("t0ken-of-ours"), "{report}");
    }
    let id = &secrets[0];
    let said = without(Finding { weight: Weight::Fault, what: format!("a {id} b"), remedy: id.clone() }, &secrets);
    assert_eq!((said.what.as_str(), said.remedy.as_str()), ("a ******** b", "********"));
}

#[test]
fn a_place_that_is_mounted_read_only_needs_another_remedy_than_a_missing_folder() {
    let remedies = [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    let said = remedies.map(write_remedy);
    assert!(said[0].contains("mounted") && said[1].contains("chown") && said[2].contains("move that away"), "{said:?}");
}

#[test]
fn a_certificate_that_is_gone_is_not_one_that_is_still_to_be_made() {
    let machine = Healthy::new();
    for file in ["certs/server.crt", "certs/server.key"] {
        fs::remove_file(machine.folder.path().join(file)).unwrap();
    }
    let told = words(&machine.findings());
    assert!(told.contains("ok    certificate: none yet"), "{told}");
    machine.write("state.json", "{}\n");
    let told = words(&machine.findings());
    assert!(told.contains("hint  certificate: none is there") && !told.contains("none yet"), "{told}");
}
