//! llama.cpp's options of one dash and several letters (`-hf`, `-ctk`), which clap would read as a row of short flags.

use std::ffi::OsString;

/// One dash, and the option that is meant.
const SPELLINGS: [(&str, &str); 10] = [
    ("-hf", "--hf-repo"),
    ("-hfr", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-gan", "--grp-attn-n"),
    ("-gaw", "--grp-attn-w"),
    ("-sys", "--system"),
    ("-no-cnv", "--no-chat-template"),
    ("-pg", "--pg"),
];

/// Options whose next argument is text of the user's, which may begin with a dash.
const TAKE_TEXT: [&str; 8] =
    ["-p", "--prompt", "-r", "--stop", "--reverse-prompt", "-sys", "--system", "--ids"];

/// Replaces the spellings in a command line; what follows `--` and texts of the user's stay as they are.
pub fn with_long_spellings(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_text = false;
    let mut is_over = false;
    let replace = |arg: OsString| {
        let was_text = std::mem::replace(&mut is_text, TAKE_TEXT.iter().any(|option| arg == *option));
        is_over |= arg == "--";
        if was_text || is_over {
            is_text &= !was_text;
            return arg;
        }
        match SPELLINGS.iter().find(|(short, _)| arg == *short) {
            Some((_, long)) => OsString::from(long),
            None => arg,
        }
    };
    args.map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let args = with_long_spellings(line.split(' ').map(OsString::from));
        args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn single_dash_words_become_long_options() {
        assert_eq!(
            spelled("lossy run -hf a/b -ctk f16 -c 5"),
            "lossy run --hf-repo a/b --cache-type-k f16 -c 5"
        );
    }

    #[test]
    fn a_prompt_that_looks_like_an_option_stays_a_prompt() {
        assert_eq!(spelled("lossy run -p -hf -hf a/b"), "lossy run -p -hf --hf-repo a/b");
        assert_eq!(spelled("lossy run -p -p -hf a/b"), "lossy run -p -p --hf-repo a/b");
        assert_eq!(spelled("lossy run -- -hf"), "lossy run -- -hf");
        assert_eq!(spelled("lossy run -sys -ctk -ctk f16"), "lossy run --system -ctk --cache-type-k f16");
    }
}
