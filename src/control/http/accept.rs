//! What a client would rather have, and what it has: the fields `Accept` and `Accept-Encoding`, which are lists with
//! weights (RFC 9110 12.4.2), and `If-None-Match`.

/// One member of such a list, as in `text/plain;version=0.0.4;q=0.5`.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// `text/plain`, `gzip`, `*`.
    pub name: &'a str,
    parameters: &'a str,
    /// From 0, which is a refusal, to 1.
    pub weight: f32,
}

/// The members of `list`, those that cannot be read left out.
pub fn wishes(list: &str) -> impl Iterator<Item = Wish<'_>> {
    list.split(',').filter_map(|member| {
        let (name, parameters) = member.split_once(';').unwrap_or((member, ""));
        let wish = Wish { name: name.trim(), parameters, weight: 1.0 };
        let weight = wish.parameter("q").map_or(Some(1.0), |weight| weight.parse().ok())?;
        (!wish.name.is_empty() && (0.0..=1.0).contains(&weight)).then_some(Wish { weight, ..wish })
    })
}

impl Wish<'_> {
    /// The value of a parameter, without its quotes.
    pub fn parameter(&self, wanted: &str) -> Option<&str> {
        let mut pairs = self.parameters.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
        Some(value.trim().trim_matches('"'))
    }
}

/// Whether an answer may be compressed with gzip: the client takes it, and does not like it plain better.
pub fn takes_gzip(accept_encoding: &str) -> bool {
    let weight = |name: &str| {
        let wish = wishes(accept_encoding).find(|wish| wish.name.eq_ignore_ascii_case(name));
        wish.map(|wish| wish.weight)
    };
    let gzip = weight("gzip").or_else(|| weight("x-gzip")).or_else(|| weight("*")).unwrap_or(0.0);
    gzip > 0.0 && gzip >= weight("identity").unwrap_or(0.0)
}

/// Whether `if_none_match` names `tag`: the client has seen what bears it.
pub fn has_tag(if_none_match: Option<&str>, tag: &str) -> bool {
    let tags = if_none_match.unwrap_or_default().split(',').map(str::trim);
    tags.map(|known| known.trim_start_matches("W/")).any(|known| known == tag || known == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_by_whoever_names_it_or_takes_anything() {
        for yes in ["gzip", "GZIP", "deflate, gzip;q=0.5, br", "*", "x-gzip", "gzip;q=0.001", "identity;q=0.5, gzip"] {
            assert!(takes_gzip(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip; q=0.000", "gzip;q=0, *", "*;q=0", "gzip;q=x", "identity, gzip;q=0.5"] {
            assert!(!takes_gzip(no), "{no}");
        }
    }

    #[test]
    fn a_tag_is_known_by_its_name_or_by_a_star() {
        for yes in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"] {
            assert!(has_tag(Some(yes), "\"7\""), "{yes}");
        }
        for no in ["", "7", "\"77\"", "\"6\",\"8\""] {
            assert!(!has_tag(Some(no), "\"7\""), "{no}");
        }
        assert!(!has_tag(None, "\"7\""));
    }

    #[test]
    fn members_have_names_parameters_and_weights() {
        let list: Vec<_> = wishes("text/plain;version=\"0.0.4\" ; Q=0.2 , , */*;q=2, a/b;q=nan, text/*").collect();
        assert_eq!(list.iter().map(|wish| wish.name).collect::<Vec<_>>(), ["text/plain", "text/*"]);
        assert_eq!((list[0].parameter("version"), list[0].weight, list[1].weight), (Some("0.0.4"), 0.2, 1.0));
    }
}
