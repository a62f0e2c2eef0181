//! The questions for TLS, and for what depends on it: certificate, server name, flow.

use std::net::IpAddr;
use std::path::Path;

use super::dialogue::{Dialogue, Question};
use super::draft::DraftTls;
use super::existing::ask_files;
use super::lang::tr;
use crate::app::config::{self, Flow};
use crate::app::exit::Failure;

pub(super) fn tls(
    dialogue: &mut Dialogue<'_>,
    folder: &Path,
    public: Option<&String>,
    before: Option<&DraftTls>,
) -> Result<Option<DraftTls>, Failure> {
    let lang = dialogue.lang;
    let text = tr!(lang, "Encrypt with TLS?", "使用 TLS 加密？");
    let help = tr!(
        lang,
        "Without TLS everybody on the way can read everything, ids included, and\n\
         Xray clients refuse to connect to a public address. No only behind another\n\
         TLS server, or inside a tunnel.",
        "不用 TLS 时，途中任何人都能看到全部内容（包括 ID），而且 Xray 客户端\n拒绝连接公网地址。只有在其他 TLS 服务器之后或隧道内才选 no。"
    );
    dialogue.explain(&help)?;
    if !dialogue.ask_yes_no("tls", &text, true, &help)? {
        return Ok(None);
    }
    let before = before.cloned().unwrap_or_default();
    let words = [("generate", "1"), ("existing", "2")];
    let text = tr!(
        lang,
        "Certificate: 1 generate a self-signed one, 2 use files that exist",
        "证书：1 生成自签名证书，2 使用已有文件"
    );
    let help = tr!(
        lang,
        "A self-signed one works at once; links carry its fingerprint, so that clients\n\
         recognise it. Files that exist come from an authority such as Let's Encrypt.",
        "自签名证书立即可用；链接中带有其指纹，客户端据此识别。\n已有文件来自 Let's Encrypt 等机构。"
    );
    let default = if before.existing { "2" } else { "1" };
    let question = Question { key: "certificate", text: &text, default, help: &help };
    let existing = choose(dialogue, &question, &words)? == "existing";
    let mut tls = if existing { ask_files(dialogue, folder, &before)? } else { DraftTls { existing, ..before } };
    if !existing && tls.existing {
        tls = DraftTls::default();
    }
    if !existing && tls.server_name == "localhost" {
        tls.server_name = public.filter(|name| name.parse::<IpAddr>().is_err()).cloned().unwrap_or(tls.server_name);
    }
    tls.server_name = server_name(dialogue, &tls)?;
    tls.flow = flow(dialogue, tls.flow)?;
    Ok(Some(tls))
}

fn server_name(dialogue: &mut Dialogue<'_>, tls: &DraftTls) -> Result<String, Failure> {
    let lang = dialogue.lang;
    let text = tr!(lang, "Server name (SNI, and the name in the certificate)", "服务器名（SNI，即证书中的名称）");
    let help = tr!(
        lang,
        "What clients ask for. With a real certificate it must be a name in it.",
        "客户端请求的名称。使用正式证书时，必须是证书中的名称。"
    );
    let question = Question { key: "server_name", text: &text, default: &tls.server_name, help: &help };
    dialogue.ask(&question, |answer| {
        if config::is_host(answer) {
            return Ok(answer.to_owned());
        }
        Err(tr!(
            lang,
            "\"{answer}\" is not a name such as vpn.example.com; no star, no port.",
            "“{answer}”不是 vpn.example.com 这样的名称；不要写星号和端口。"
        ))
    })
}

fn flow(dialogue: &mut Dialogue<'_>, before: Flow) -> Result<Flow, Failure> {
    let lang = dialogue.lang;
    let text = tr!(
        lang,
        "Flow: 1 xtls-rprx-vision, 2 xtls-rprx-vision-udp443, 3 none",
        "流控：1 xtls-rprx-vision，2 xtls-rprx-vision-udp443，3 无"
    );
    let help = tr!(
        lang,
        "Vision hides the pattern of a connection and then moves bytes without encrypting\n\
         them twice. The second one lets clients use QUIC. Without it every client works.",
        "Vision 隐藏连接特征，并避免重复加密。第二项允许客户端使用 QUIC。\n无流控时所有客户端都能用。"
    );
    let default = match before {
        Flow::Vision => "1",
        Flow::VisionUdp443 => "2",
        Flow::None => "3",
    };
    let question = Question { key: "flow", text: &text, default, help: &help };
    let words = [("xtls-rprx-vision", "1"), ("xtls-rprx-vision-udp443", "2"), ("none", "3")];
    Ok(match choose(dialogue, &question, &words)? {
        "xtls-rprx-vision" => Flow::Vision,
        "none" => Flow::None,
        _ => Flow::VisionUdp443,
    })
}

/// One of a few words, by number or name.
fn choose<'w>(
    dialogue: &mut Dialogue<'_>,
    question: &Question<'_>,
    words: &[(&'w str, &str)],
) -> Result<&'w str, Failure> {
    let lang = dialogue.lang;
    let last = words.len();
    dialogue.ask(question, |answer| {
        let found = words.iter().find(|(word, number)| *number == answer || word.eq_ignore_ascii_case(answer));
        found.map(|(word, _)| *word).ok_or_else(|| {
            tr!(
                lang,
                "\"{answer}\" is not one of them: type a number from 1 to {last}.",
                "没有“{answer}”这一项：请输入 1 到 {last}。"
            )
        })
    })
}
