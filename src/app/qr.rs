//! A text as a QR code, for a terminal and as SVG.
//!
//! Owns how modules become characters and shapes. Dark modules are blanks on a terminal: most terminals are dark, and
//! readers take the inverse only from some. The colours are therefore set, not left to the terminal.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of light around the code. The standard wants four; readers do with two on a screen.
const QUIET: i32 = 2;
/// In a picture there is room.
const QUIET_SVG: i32 = 4;

/// A code, ready to be drawn.
pub struct Qr(QrCode);

impl Qr {
    /// None if the text is longer than any code can hold (2953 bytes).
    pub fn new(text: &str) -> Option<Self> {
        // The lowest correction gives the smallest code; a screen has no scratches.
        QrCode::encode_text(text, QrCodeEcc::Low).ok().map(Self)
    }

    /// Columns and lines that [`Qr::terminal`] takes.
    pub fn size(&self) -> (usize, usize) {
        let modules = (self.0.size() + 2 * QUIET) as usize;
        (modules, modules.div_ceil(2))
    }

    /// Lines of half blocks, two modules above each other in each character, black on white.
    pub fn terminal(&self) -> String {
        let (start, end) = (-QUIET, self.0.size() + QUIET);
        let mut text = String::new();
        for y in (start..end).step_by(2) {
            text.push_str("\x1b[30;107m");
            for x in start..end {
                // What is below the last line must stay light.
                let lower = y + 1 < end && self.0.get_module(x, y + 1);
                text.push(match (self.0.get_module(x, y), lower) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            text.push_str("\x1b[0m\n");
        }
        text
    }

    /// A picture with no size of its own; dark on light, whatever the page's theme.
    pub fn svg(&self) -> String {
        let (size, side) = (self.0.size(), self.0.size() + 2 * QUIET_SVG);
        let mut path = String::new();
        for y in 0..size {
            for x in (0..size).filter(|&x| self.0.get_module(x, y)) {
                // Writing to a String does not fail.
                let _ = write!(path, "M{},{}h1v1h-1z", x + QUIET_SVG, y + QUIET_SVG);
            }
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>\n"
        )
    }
}

/// Why a code of this size cannot be scanned from a terminal of that one; none if it can.
pub fn does_not_fit(code: (usize, usize), terminal: (usize, usize)) -> Option<String> {
    // The line of the prompt comes below.
    let fits = code.0 <= terminal.0 && code.1 < terminal.1;
    (!fits).then(|| {
        format!(
            "it needs {} columns and {} lines, and this terminal has {} and {}",
            code.0,
            code.1 + 1,
            terminal.0,
            terminal.1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "vless://5783a3e7-e373-51cd-8642-c83782b807c5@203.0.113.10:8443?encryption=none\
        &flow=xtls-rprx-vision&security=tls&sni=localhost&fp=chrome&alpn=h2%2Chttp%2F1.1\
        &pcs=60a3fc80cd8d087bc8168f6570269dc500863b337424a07aa71b9a104dc25c7f&type=tcp&headerType=none#user1";

    /// What a reader that is not ours sees in the half blocks.
    fn read(drawn: &str) -> String {
        let lines: Vec<Vec<char>> = drawn
            .lines()
            .map(|line| line.strip_prefix("\x1b[30;107m").unwrap().strip_suffix("\x1b[0m").unwrap().chars().collect())
            .collect();
        let scale = 4;
        let (width, height) = (lines[0].len() * scale, lines.len() * 2 * scale);
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            let char = lines[y / scale / 2][x / scale];
            let is_upper = y / scale % 2 == 0;
            let is_dark = matches!((char, is_upper), ('█', _) | ('▀', true) | ('▄', false));
            if is_dark { 0 } else { 255 }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn an_independent_reader_finds_the_text() {
        for text in [LINK, "a", "我 é"] {
            let code = Qr::new(text).unwrap();
            assert_eq!(read(&code.terminal()), text);
        }
    }

    #[test]
    fn every_length_of_link_is_readable() {
        for length in (20..1200).step_by(97) {
            let text = format!("{LINK}{}", "x".repeat(length));
            assert_eq!(read(&Qr::new(&text).unwrap().terminal()), text);
        }
    }

    #[test]
    fn the_size_is_what_is_drawn() {
        let code = Qr::new(LINK).unwrap();
        let drawn = code.terminal();
        let columns = drawn.lines().next().unwrap().chars().count() - "\x1b[30;107m\x1b[0m".chars().count();
        assert_eq!(code.size(), (columns, drawn.lines().count()));
        assert!(does_not_fit(code.size(), (80, 24)).unwrap().contains("this terminal has 80 and 24"));
        assert_eq!(does_not_fit(code.size(), (80, 50)), None);
    }

    #[test]
    fn a_picture_has_as_many_squares_as_dark_modules() {
        let code = Qr::new(LINK).unwrap();
        let size = code.0.size();
        let dark = (0..size).flat_map(|y| (0..size).map(move |x| (x, y))).filter(|&(x, y)| code.0.get_module(x, y));
        assert_eq!(code.svg().matches("h1v1h-1z").count(), dark.count());
    }

    #[test]
    fn what_no_code_can_hold_is_none() {
        assert!(Qr::new(&"x".repeat(3000)).is_none());
    }
}
