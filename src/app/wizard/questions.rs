//! The questions for addresses and ports: what is asked, what is a good answer, and what is said about a bad one.

use std::net::IpAddr;

use super::dialogue::{Dialogue, Question};
use super::draft::{DraftMonitoring, random_token};
use super::lang::{Lang, tr};
use super::machine::{Machine, PortProblem};
use crate::app::config;
use crate::app::exit::Failure;
use crate::outbound::policy::is_public;

/// Ports that are proposed when the first is taken.
const PORTS: &[u16] = &[8443, 443, 2053, 2083, 2087, 2096, 9443, 10443];

pub(super) fn listen(dialogue: &mut Dialogue<'_>, machine: &dyn Machine, default: &str) -> Result<String, Failure> {
    let lang = dialogue.lang;
    let text = tr!(lang, "Address to listen on", "监听地址");
    let help = tr!(
        lang,
        "0.0.0.0 = all IPv4 addresses of this machine, :: = all IPv6 and IPv4 ones,\n127.0.0.1 = this machine only.",
        "0.0.0.0 = 本机所有 IPv4 地址，:: = 所有 IPv6 和 IPv4 地址，\n127.0.0.1 = 仅本机。"
    );
    let question = Question { key: "listen", text: &text, default, help: &help };
    dialogue.ask(&question, |answer| {
        let Ok(ip) = answer.parse::<IpAddr>() else {
            return Err(tr!(
                lang,
                "\"{answer}\" is not an IP address such as 0.0.0.0 or ::; no name, no port.",
                "“{answer}”不是 IP 地址（如 0.0.0.0 或 ::）；不要写域名或端口。"
            ));
        };
        match machine.try_port(ip, 0) {
            Err(PortProblem::NotMine) => Err(tr!(
                lang,
                "This machine does not have the address {ip}; 0.0.0.0 takes whatever it has.",
                "本机没有地址 {ip}；0.0.0.0 表示本机所有地址。"
            )),
            Err(PortProblem::Other(why)) => {
                Err(tr!(lang, "{ip} cannot be listened on: {why}.", "无法监听 {ip}：{why}。"))
            }
            _ => Ok(ip.to_string()),
        }
    })
}

pub(super) fn port(
    dialogue: &mut Dialogue<'_>,
    machine: &dyn Machine,
    listen: &str,
    wanted: u16,
) -> Result<u16, Failure> {
    let lang = dialogue.lang;
    let ip = listen.parse::<IpAddr>().unwrap_or_else(|_| [0, 0, 0, 0].into());
    let free = |port: &u16| machine.try_port(ip, *port).is_ok();
    let default = [wanted].iter().chain(PORTS).copied().find(free).unwrap_or(wanted).to_string();
    let text = tr!(lang, "TCP port", "TCP 端口");
    let help = tr!(
        lang,
        "443 is what restrictive networks let through; 8443 needs no root. Both are\nknown as HTTPS.",
        "443 最不容易被网络限制；8443 不需要 root。二者都是常见的 HTTPS 端口。"
    );
    let question = Question { key: "port", text: &text, default: &default, help: &help };
    loop {
        let (port, needs_root) = dialogue.ask(&question, |answer| {
            let port = port_number(lang, answer)?;
            match machine.try_port(ip, port) {
                Ok(()) => Ok((port, false)),
                Err(PortProblem::NeedsRoot) => Ok((port, true)),
                Err(problem) => Err(taken(lang, port, &problem)),
            }
        })?;
        if !needs_root {
            return Ok(port);
        }
        let text = tr!(
            lang,
            "Port {port} needs root, or the service (vless-rust service install).\nTake it all the same?",
            "端口 {port} 需要 root，或以服务运行（vless-rust service install）。\n仍然使用？"
        );
        if dialogue.ask_yes_no("port_needs_root", &text, false, &help)? {
            return Ok(port);
        }
        if dialogue.is_silent() {
            let why = tr!(
                lang,
                "port {port} needs root: run as root, or answer port_needs_root = yes",
                "端口 {port} 需要 root：请以 root 运行，或回答 port_needs_root = yes"
            );
            return Err(Failure::new(crate::app::exit::NO_PERMISSION, why));
        }
    }
}

fn port_number(lang: Lang, answer: &str) -> Result<u16, String> {
    let digits = !answer.is_empty() && answer.bytes().all(|byte| byte.is_ascii_digit());
    answer.parse().ok().filter(|&port| digits && port != 0).ok_or_else(|| {
        tr!(
            lang,
            "\"{answer}\" is not a port: a whole number from 1 to 65535.",
            "“{answer}”不是端口：请输入 1 到 65535 的整数。"
        )
    })
}

fn taken(lang: Lang, port: u16, problem: &PortProblem) -> String {
    match problem {
        PortProblem::Taken(Some(holder)) => tr!(
            lang,
            "Port {port} is taken by {holder}: stop it, or take another port.",
            "端口 {port} 已被 {holder} 占用：请停止它，或换一个端口。"
        ),
        PortProblem::Taken(None) => tr!(
            lang,
            "Port {port} is taken by another program (root could say which): take another.",
            "端口 {port} 已被其他程序占用（root 才能看到是哪个）：请换一个端口。"
        ),
        PortProblem::Other(why) => {
            tr!(lang, "Port {port} cannot be listened on: {why}.", "无法监听端口 {port}：{why}。")
        }
        PortProblem::NeedsRoot | PortProblem::NotMine => {
            tr!(lang, "Port {port} cannot be listened on.", "无法监听端口 {port}。")
        }
    }
}

/// What links name as this server; none = found out at each start.
pub(super) fn public(
    dialogue: &mut Dialogue<'_>,
    machine: &dyn Machine,
    listen: &str,
    default: Option<&String>,
) -> Result<Option<String>, Failure> {
    let lang = dialogue.lang;
    let specific = listen.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
    let known = specific.or_else(|| machine.source_address());
    let shown = default.cloned().or(known.map(|ip| ip.to_string())).unwrap_or_else(|| "127.0.0.1".to_owned());
    if !known.is_some_and(is_public) && default.is_none() {
        dialogue.explain(&tr!(
            lang,
            "This machine only knows its private address. If clients come from the internet,\n\
             type the public address (your provider's page shows it) or a domain name.",
            "本机只知道自己的内网地址。如果客户端来自互联网，请输入公网地址\n（云服务商页面上可以看到）或域名。"
        ))?;
    }
    let text = tr!(lang, "Address or name that clients connect to", "客户端连接的地址或域名");
    let help = tr!(
        lang,
        "It goes into the links. A domain name that points to this machine does, too.",
        "它会写入分享链接。指向本机的域名也可以。"
    );
    let question = Question { key: "public_address", text: &text, default: &shown, help: &help };
    let answer = dialogue.ask(&question, |answer| {
        let bare = answer.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(answer);
        if !config::is_host(bare) {
            return Err(tr!(
                lang,
                "\"{answer}\" is neither an IP address nor a host name; leave out http:// and the port.",
                "“{answer}”既不是 IP 地址也不是域名；不要写 http:// 和端口。"
            ));
        }
        if bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err(tr!(lang, "Nobody can connect to {bare}.", "没有人能连接到 {bare}。"));
        }
        Ok(bare.to_owned())
    })?;
    // What the program finds out by itself need not be written down.
    Ok(Some(answer).filter(|answer| known.map(|ip| ip.to_string()).as_ref() != Some(answer)))
}

pub(super) fn monitoring(
    dialogue: &mut Dialogue<'_>,
    machine: &dyn Machine,
    proxy_port: u16,
    before: Option<&DraftMonitoring>,
) -> Result<Option<DraftMonitoring>, Failure> {
    let lang = dialogue.lang;
    let text = tr!(lang, "Statistics page?", "启用统计页面？");
    let help = tr!(
        lang,
        "A page in the browser with traffic, users and connections. Secret keys for it\nare made.",
        "浏览器中的页面，显示流量、用户和连接。会自动生成密钥。"
    );
    if !dialogue.ask_yes_no("monitoring", &text, true, &help)? {
        return Ok(None);
    }
    let mut monitoring = before.cloned().unwrap_or_default();
    let text = tr!(lang, "Address of the page", "页面地址");
    let help = tr!(
        lang,
        "127.0.0.1 = reachable from this machine, and through ssh from elsewhere. Any\n\
         other address is readable on its way, as the page itself has no TLS.",
        "127.0.0.1 = 仅本机可访问，其他机器可通过 ssh 访问。\n其他地址在途中可被窃听，因为页面本身没有 TLS。"
    );
    let question = Question { key: "monitoring_listen", text: &text, default: &monitoring.listen, help: &help };
    let ip = dialogue.ask(&question, |answer| match answer.parse::<IpAddr>() {
        Ok(ip) if machine.try_port(ip, 0) != Err(PortProblem::NotMine) => Ok(ip),
        Ok(ip) => Err(tr!(lang, "This machine does not have the address {ip}.", "本机没有地址 {ip}。")),
        Err(_) => Err(tr!(
            lang,
            "\"{answer}\" is not an IP address such as 127.0.0.1.",
            "“{answer}”不是 127.0.0.1 这样的 IP 地址。"
        )),
    })?;
    let free = |port: &u16| *port != proxy_port && machine.try_port(ip, *port).is_ok();
    let wanted = monitoring.port;
    let default = (wanted..=u16::MAX).take(100).find(free).unwrap_or(wanted).to_string();
    let text = tr!(lang, "Port of the page", "页面端口");
    let question = Question { key: "monitoring_port", text: &text, default: &default, help: &help };
    monitoring.port = dialogue.ask(&question, |answer| {
        let port = port_number(lang, answer)?;
        if port == proxy_port {
            return Err(tr!(
                lang,
                "Port {port} is the one for clients; the page needs another.",
                "端口 {port} 已用于客户端；页面需要另一个端口。"
            ));
        }
        machine.try_port(ip, port).map(|()| port).map_err(|problem| taken(lang, port, &problem))
    })?;
    monitoring.listen = ip.to_string();
    monitoring.token = (!ip.is_loopback()).then(random_token);
    Ok(Some(monitoring))
}
