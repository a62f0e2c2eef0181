//! The summary before anything is written, and what is said when all is done.
//!
//! Owns the last page: link, QR code, pins, the page's address, the firewall, the next step.

use std::net::IpAddr;
use std::path::Path;

use super::draft::{Draft, DraftMonitoring};
use super::lang::{Lang, tr};
use super::lines::wrapped;
use super::machine::Machine;
use crate::app::certs;
use crate::app::config::DEFAULT_FILE;
use crate::app::firewall::Firewall;
use crate::app::init::Created;
use crate::app::link;
use crate::app::qr::{Qr, does_not_fit};
use crate::app::service::in_a_home;

/// What would be written.
pub(super) fn summary(lang: Lang, path: &Path, draft: &Draft) -> String {
    let listen = host_in_url(&draft.listen);
    let mut rows = vec![
        (tr!(lang, "file", "文件"), path.display().to_string()),
        (tr!(lang, "listens on", "监听"), format!("{listen}:{}", draft.port)),
        (
            tr!(lang, "links name", "链接地址"),
            draft.public.clone().unwrap_or_else(|| tr!(lang, "this machine's address", "本机地址")),
        ),
        (tr!(lang, "users", "用户"), draft.users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>().join(", ")),
    ];
    match &draft.tls {
        None => rows.push(("TLS".to_owned(), tr!(lang, "no: everything is readable on its way", "无：途中可被窃听"))),
        Some(tls) => {
            let certificate = if tls.existing {
                tls.cert_file.clone()
            } else {
                tr!(lang, "self-signed, made now, for ten years", "自签名，现在生成，有效十年")
            };
            rows.push((tr!(lang, "certificate", "证书"), certificate));
            rows.push((tr!(lang, "server name", "服务器名"), tls.server_name.clone()));
            let flow = tls.flow.as_str();
            let none = tr!(lang, "none", "无");
            rows.push((tr!(lang, "flow", "流控"), if flow.is_empty() { none } else { flow.to_owned() }));
        }
    }
    let page = draft.monitoring.as_ref().map(|page| format!("http://{}:{}/", host_in_url(&page.listen), page.port));
    rows.push((tr!(lang, "page", "页面"), page.unwrap_or_else(|| tr!(lang, "none", "无"))));
    let rows = rows.iter().map(|(name, value)| format!("  {name}: {value}")).collect::<Vec<_>>().join("\n");
    let heading = tr!(lang, "Summary:", "摘要：");
    format!("\n{heading}\n{rows}\n")
}

/// All that follows from what was written.
pub(super) fn words(lang: Lang, path: &Path, draft: &Draft, created: &Created, machine: &dyn Machine) -> String {
    let mut parts = vec![tr!(lang, "\nDone. Written:", "\n完成。已写入：")];
    parts.push(created.files.iter().map(|file| format!("  {}", shown(file))).collect::<Vec<_>>().join("\n"));
    let (program, option) = (machine.program(), option(path));
    parts.push(tr!(
        lang,
        "\nImport this link into a client, an app such as v2rayN or v2rayNG\n({program} link{option} prints it again):",
        "\n将此链接导入客户端应用，例如 v2rayN 或 v2rayNG\n（{program} link{option} 可再次显示）："
    ));
    parts.push(created.link.clone());
    parts.push(qr_code(lang, path, &created.link, machine));
    parts.extend(created.certificates.first().filter(|certificate| certificate.needs_pin).map(|certificate| {
        let (hex, base64) = (certs::hex(&certificate.fingerprint), &certificate.public_key_sha256);
        tr!(
            lang,
            "\nPin of the certificate, where a client asks for it:\n  \
             Xray, v2rayN, v2rayNG (pinnedPeerCertSha256), mihomo (fingerprint):\n    {hex}\n  \
             sing-box (certificate_public_key_sha256):\n    {base64}",
            "\n证书指纹（客户端需要时填写）：\n  \
             Xray、v2rayN、v2rayNG（pinnedPeerCertSha256）、mihomo（fingerprint）：\n    {hex}\n  \
             sing-box（certificate_public_key_sha256）：\n    {base64}"
        )
    }));
    parts.push(tr!(
        lang,
        "Whole files with the pin, for xray, sing-box or mihomo:\n  {program} link{option} --format xray",
        "带指纹的完整配置（xray、sing-box 或 mihomo）：\n  {program} link{option} --format xray"
    ));
    parts.extend(draft.monitoring.as_ref().map(|page| page_address(lang, page, draft, created)));
    parts.push(firewall(lang, draft.port, machine));
    let of_host = link::host(&created.config).warning;
    parts.extend(created.warnings.iter().map(|warning| match lang {
        Lang::Zh if of_host.as_ref() == Some(warning) => format!(
            "\n注意：链接中的地址 {} 不是公网地址。如果客户端在别处，\n请在 {} 中把 server.public_ip 设为客户端访问本机的地址或域名。",
            created.host,
            path.display()
        ),
        _ => wrapped(&tr!(lang, "\nNote: {warning}", "\n注意：{warning}")),
    }));
    let next = if path == Path::new(DEFAULT_FILE) { String::new() } else { format!(" {}", path.display()) };
    parts.push(tr!(lang, "\nTo serve, from now on:\n  {program} run{next}", "\n以后启动服务：\n  {program} run{next}"));
    // A service could not see it there.
    parts.push(match in_a_home(std::path::absolute(path)) {
        None => tr!(
            lang,
            "or, as root, make it a service that starts with the machine:\n  {program} service install{option}",
            "或以 root 设为开机启动的服务：\n  {program} service install{option}"
        ),
        Some(_) => tr!(
            lang,
            "or make it a service that starts with the machine: conf/README.md, Service.\n\
             That needs the configuration outside of home folders.",
            "或设为开机启动的服务：见 conf/README.md 的 Service 一节。\n配置文件不能放在用户主目录中。"
        ),
    });
    parts.join("\n")
}

fn qr_code(lang: Lang, path: &Path, links: &str, machine: &dyn Machine) -> String {
    let (program, option) = (machine.program(), option(path));
    let Some(link) = links.lines().next().filter(|_| links.lines().count() == 1) else {
        return tr!(
            lang,
            "\nQR codes, one user each: {program} link{option} --qr NAME",
            "\n每个用户的二维码：{program} link{option} --qr 用户名"
        );
    };
    let Some(code) = Qr::new(link) else {
        return tr!(lang, "\nNo QR code: the link is too long for one.", "\n没有二维码：链接过长。");
    };
    // Without a terminal nobody can scan it.
    let Some(terminal) = machine.terminal() else {
        return tr!(lang, "\nQR code: {program} link{option} --qr", "\n二维码：{program} link{option} --qr");
    };
    match does_not_fit(code.size(), terminal) {
        None => format!("\n{}", code.terminal()),
        Some(why) => {
            let ((columns, lines), (has_columns, has_lines)) = (code.size(), terminal);
            tr!(
                lang,
                "\nNo QR code here:\n{why}.\nIn a larger window: {program} link{option} --qr",
                "\n此处无法显示二维码：\n需要超过 {lines} 行、至少 {columns} 列，本终端为 {has_lines} 行 {has_columns} 列。\n\
                 请在更大的窗口中运行：{program} link{option} --qr"
            )
        }
    }
}

fn page_address(lang: Lang, page: &DraftMonitoring, draft: &Draft, created: &Created) -> String {
    let ip = page.listen.parse::<IpAddr>().ok();
    let shown = if ip.is_some_and(|ip| ip.is_unspecified()) { &created.host } else { &page.listen };
    let (host, port, token) = (host_in_url(shown), page.port, &page.admin_token);
    let address = format!("http://{host}:{port}/#token={token}");
    let text = tr!(
        lang,
        "\nStatistics page (the token in it is secret, it may change things):\n  {address}",
        "\n统计页面（其中的 token 是机密，可以修改设置）：\n  {address}"
    );
    if !ip.is_some_and(|ip| ip.is_loopback()) {
        return text;
    }
    let machine = draft.public.as_ref().unwrap_or(&created.host);
    let forward = format!("ssh -N -L {port}:{host}:{port} root@{machine}");
    text + &tr!(lang, "\nFrom elsewhere, first: {forward}", "\n从其他机器访问，先运行：{forward}")
}

fn firewall(lang: Lang, port: u16, machine: &dyn Machine) -> String {
    let firewall = machine.firewall();
    let provider = tr!(
        lang,
        "If your provider has a firewall of its own, as most have, open {port}/TCP there.",
        "如果云服务商有自己的防火墙（多数都有），也要在那里开放 TCP {port}。"
    );
    let own = match firewall.command(port) {
        Some(command) => {
            let sudo = if machine.is_root() { "" } else { "sudo " };
            tr!(
                lang,
                "\nFirewall, open the port with:\n  {sudo}{command}",
                "\n防火墙，用此命令开放端口：\n  {sudo}{command}"
            )
        }
        None if firewall == Firewall::Unknown => tr!(
            lang,
            "\nFirewall: only root may look whether nftables keeps TCP {port} closed\n(sudo nft list ruleset).",
            "\n防火墙：只有 root 能查看 nftables 是否阻挡 TCP {port}\n（sudo nft list ruleset）。"
        ),
        None => tr!(
            lang,
            "\nFirewall: none on this machine keeps TCP {port} closed.",
            "\n防火墙：本机没有阻挡 TCP {port}。"
        ),
    };
    format!("{own}\n{provider}")
}

/// A path as people write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// ` -c FILE`, unless it is the default.
fn option(path: &Path) -> String {
    if path == Path::new(DEFAULT_FILE) { String::new() } else { format!(" -c {}", path.display()) }
}

fn host_in_url(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
