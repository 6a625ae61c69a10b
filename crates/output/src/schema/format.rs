//! What `format` means, as regular expressions.
//!
//! They are strict: everything that they match is valid by the specification of the format, but not everything that is
//! valid has a usual form. A date has a year from 1000 and knows leap years; there are no leap seconds; a host name has
//! short labels of letters, digits and single hyphens; an IPv6 address has no IPv4 address in it.

/// A format: its name, what it matches from beginning to end, and the most characters.
pub(super) struct Format {
    pub(super) name: &'static str,
    pub(super) regex: &'static str,
    pub(super) max_length: Option<u64>,
}

macro_rules! date {
    () => {
        concat!(
            "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
            "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))",
            "|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29)"
        )
    };
}

macro_rules! time {
    () => {
        "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
    };
}

macro_rules! host {
    () => {
        "(?:[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,2}(?:[.][A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,2})*)"
    };
}

/// All formats.
pub(super) const FORMATS: [Format; 11] = [
    Format { name: "date", regex: date!(), max_length: None },
    Format { name: "time", regex: time!(), max_length: None },
    Format { name: "date-time", regex: concat!(date!(), "T", time!()), max_length: None },
    Format {
        name: "duration",
        regex: concat!(
            "P(?:[0-9]{1,9}W|(?:(?:[0-9]{1,9}Y(?:[0-9]{1,9}M(?:[0-9]{1,9}D)?)?|[0-9]{1,9}M(?:[0-9]{1,9}D)?|[0-9]{1,9}D)",
            "(?:T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?|[0-9]{1,9}S))?",
            "|T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?|[0-9]{1,9}S)))"
        ),
        max_length: None,
    },
    Format {
        name: "email",
        regex: concat!("[A-Za-z0-9_+-]{1,24}(?:[.][A-Za-z0-9_+-]{1,24}){0,1}@", host!()),
        max_length: Some(254),
    },
    Format { name: "hostname", regex: host!(), max_length: Some(253) },
    Format {
        name: "ipv4",
        regex: "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])",
        max_length: None,
    },
    Format {
        name: "ipv6",
        regex: concat!(
            "(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,6})?",
            "|[0-9a-fA-F]{1,4}::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,5})?",
            "|[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){1}::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,4})?",
            "|[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){2}::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,3})?",
            "|[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){3}::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,2})?)"
        ),
        max_length: None,
    },
    Format {
        name: "uuid",
        regex: "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        max_length: None,
    },
    Format {
        name: "uri",
        regex: concat!(
            "[A-Za-z][A-Za-z0-9+.-]*:(?://",
            host!(),
            "(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*|[A-Za-z0-9._~!$&'()*+,;=:@-]+)",
            "(?:[?][A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
        ),
        max_length: None,
    },
    Format { name: "json-pointer", regex: "(?:/(?:[^~/]|~[01])*)*", max_length: None },
];

/// The format of a name.
pub(super) fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// All names, for errors.
pub(super) fn names() -> String {
    FORMATS.map(|format| format.name).join(", ")
}
