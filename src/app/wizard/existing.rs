//! The question for certificate files that exist, and everything that can be said against them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::dialogue::{Dialogue, Question};
use super::draft::DraftTls;
use super::lang::{Lang, tr};
use crate::app::certs::{self, LoadedCertificate};
use crate::app::clock::rfc3339;
use crate::app::exit::Failure;
use crate::app::service::{self, Account};

/// A certificate that expires sooner is worth a word.
const EXPIRES_SOON: Duration = Duration::from_hours(14 * 24);

/// Asks for both files until they belong together.
pub(super) fn ask_files(dialogue: &mut Dialogue<'_>, folder: &Path, before: &DraftTls) -> Result<DraftTls, Failure> {
    let lang = dialogue.lang;
    let (default_cert, default_key) =
        if before.existing { (before.cert_file.as_str(), before.key_file.as_str()) } else { ("", "") };
    loop {
        let text = tr!(lang, "Certificate chain (PEM), such as fullchain.pem", "证书链（PEM），如 fullchain.pem");
        let help = tr!(
            lang,
            "The server's own certificate first, then those between it and the authority.",
            "先是服务器自己的证书，然后是中间证书。"
        );
        let question = Question { key: "cert_file", text: &text, default: default_cert, help: &help };
        let cert_file = dialogue.ask(&question, |answer| readable(lang, folder, answer))?;
        let text = tr!(lang, "Its private key (PEM), such as privkey.pem", "私钥（PEM），如 privkey.pem");
        let help = tr!(lang, "The file that belongs to the certificate.", "与证书配套的文件。");
        let question = Question { key: "key_file", text: &text, default: default_key, help: &help };
        let key_file = dialogue.ask(&question, |answer| readable(lang, folder, answer))?;
        match certs::inspect(&cert_file, &key_file, SystemTime::now()) {
            Ok(certificate) => {
                for warning in
                    warnings(lang, &certificate).into_iter().chain(unreadable(lang, folder, [&cert_file, &key_file]))
                {
                    dialogue.say(&format!("  {warning}"))?;
                }
                let [cert_file, key_file] = [cert_file, key_file].map(|path| path.display().to_string());
                let first = certificate.names.iter().find(|name| !name.starts_with('*')).cloned();
                let server_name = first.unwrap_or_else(|| before.server_name.clone());
                return Ok(DraftTls { cert_file, key_file, existing: true, server_name, flow: before.flow });
            }
            Err(failure) if dialogue.is_silent() => return Err(failure),
            Err(failure) => {
                let text = tr!(lang, "This pair does not do: {failure}", "这一对文件不可用：{failure}");
                dialogue.say(&format!("  {text}"))?;
            }
        }
    }
}

/// The path, if there is a file that this user may read.
fn readable(lang: Lang, folder: &Path, answer: &str) -> Result<PathBuf, String> {
    if answer.is_empty() {
        return Err(tr!(lang, "The path of a file is needed.", "请输入文件路径。"));
    }
    if let Some(rest) = answer.strip_prefix("~/") {
        return Err(tr!(
            lang,
            "~ is not understood here; type the whole path, such as /home/NAME/{rest}.",
            "这里不支持 ~；请输入完整路径，如 /home/NAME/{rest}。"
        ));
    }
    let path = folder.join(answer);
    let shown = path.display();
    let metadata = path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => tr!(lang, "There is no file {shown}.", "没有文件 {shown}。"),
        _ => tr!(lang, "{shown} cannot be looked at: {error}.", "无法查看 {shown}：{error}。"),
    })?;
    if metadata.is_dir() {
        return Err(tr!(lang, "{shown} is a folder; name the file in it.", "{shown} 是目录；请写出其中的文件。"));
    }
    std::fs::File::open(&path).map_err(|error| {
        tr!(
            lang,
            "{shown} cannot be read by this user: {error}. Run as root, or copy it.",
            "当前用户无法读取 {shown}：{error}。请以 root 运行，或复制一份。"
        )
    })?;
    Ok(path)
}

/// A pair elsewhere must be readable by the service, too. Only root can make a service of the server.
fn unreadable(lang: Lang, folder: &Path, files: [&Path; 2]) -> Option<String> {
    let user = Account::named(service::USER, Path::new("/"));
    let is_elsewhere = |file: &&Path| !service::is_in(file, folder);
    let (what, remedy) = files.into_iter().filter(is_elsewhere).find_map(|file| service::unreadable(file, &user))?;
    Some(tr!(
        lang,
        "As a service it would not work: {what}.\n  The way out: {remedy}.",
        "作为服务运行时将无法使用：{what}。\n  解决办法：{remedy}。"
    ))
}

/// What is worth knowing about a pair that does.
fn warnings(lang: Lang, certificate: &LoadedCertificate) -> Vec<String> {
    let mut lines = certificate.warnings.clone();
    let left = certificate.not_after.duration_since(SystemTime::now());
    if left.is_ok_and(|left| left < EXPIRES_SOON) {
        let when = rfc3339(certificate.not_after);
        lines.push(tr!(lang, "The certificate expires soon: {when}.", "证书即将过期：{when}。"));
    }
    if certificate.needs_pin {
        lines.push(tr!(
            lang,
            "Clients do not know its issuer: links will carry its fingerprint.",
            "客户端不认识其签发者：链接中会带有其指纹。"
        ));
    }
    lines
}
