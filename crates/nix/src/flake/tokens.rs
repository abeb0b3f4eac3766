//! Cuts the text of a Nix expression into what a reader of its outline needs:
//! names, texts and brackets. What is inside of a text is not looked at.
//!
//! As Nix's own lexer has it (`libexpr/lexer.l`), but for what is the same to us:
//! numbers, paths and operators are all [`Token::Other`].

/// A piece of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or a keyword.
    Name(String),
    /// A text; `None` if what it is takes evaluating.
    Text(Option<String>),
    /// One of `{ } ( ) [ ] ; = . , : @ ?`.
    Sign(char),
    /// Three dots, `...`, as in a function's arguments.
    Ellipsis,
    /// Any other piece: numbers, paths, operators.
    Other,
}

/// The pieces of a text; `None` if it ends in the middle of one.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut reader = Reader { rest: text };
    let mut tokens = Vec::new();
    while let Some(token) = reader.next()? {
        tokens.push(token);
    }
    Some(tokens)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// The next piece; `Some(None)` at the end.
    fn next(&mut self) -> Option<Option<Token>> {
        self.skip_blank()?;
        let Some(first) = self.rest.chars().next() else { return Some(None) };
        let token = if self.take("...") {
            Token::Ellipsis
        } else if self.take("\"") {
            Token::Text(self.text("\"")?)
        } else if self.take("''") {
            Token::Text(self.text("''")?)
        } else if let Some(address) = self.address() {
            Token::Text(Some(address))
        } else if self.path() {
            Token::Other
        } else if first.is_ascii_alphabetic() || first == '_' {
            let inside = |c: char| c.is_ascii_alphanumeric() || "_'-".contains(c);
            Token::Name(self.while_(inside).to_owned())
        } else {
            self.skip(first.len_utf8());
            if "{}()[];=.,:@?".contains(first) { Token::Sign(first) } else { Token::Other }
        };
        // `==` is no definition.
        if token == Token::Sign('=') && self.take("=") {
            return Some(Some(Token::Other));
        }
        Some(Some(token))
    }

    fn skip_blank(&mut self) -> Option<()> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with('#') {
                self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
            } else if self.take("/*") {
                let end = self.rest.find("*/")?;
                self.skip(end + 2);
            } else {
                return Some(());
            }
        }
    }

    /// Reads a text up to its end; `None` inside if something is put into it.
    fn text(&mut self, end: &str) -> Option<Option<String>> {
        let indented = end == "''";
        let mut said = Some(String::new());
        loop {
            if indented && (self.take("''$") || self.take("'''")) {
                // Texts with these are none that we look at.
                said = None;
            } else if indented && self.take("''\\") {
                self.skip(self.rest.chars().next()?.len_utf8());
                said = None;
            } else if self.take(end) {
                // The indentation of such a text is not worked out.
                return Some(said.filter(|_| !indented));
            } else if !indented && self.take("\\") {
                let c = self.rest.chars().next()?;
                self.skip(c.len_utf8());
                let meant = match c {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                };
                said = said.map(|said| said + meant.encode_utf8(&mut [0; 4]));
            } else if self.take("$${") {
                said = said.map(|said| said + "$${");
            } else if self.take("${") {
                self.skip_inserted()?;
                said = None;
            } else {
                let c = self.rest.chars().next()?;
                self.skip(c.len_utf8());
                said = said.map(|said| said + c.encode_utf8(&mut [0; 4]));
            }
        }
    }

    /// Skips the expression between `${` and its `}`.
    fn skip_inserted(&mut self) -> Option<()> {
        let mut open = 1_u32;
        while open > 0 {
            match self.next()?? {
                Token::Sign('{') => open += 1,
                Token::Sign('}') => open -= 1,
                Token::Name(_)
                | Token::Text(_)
                | Token::Sign(_)
                | Token::Ellipsis
                | Token::Other => {}
            }
        }
        Some(())
    }

    /// An address without quotes, as in `url = github:a/b;`.
    fn address(&mut self) -> Option<String> {
        let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let end = self.rest.find(|c| !scheme(c))?;
        let begins = self.rest.starts_with(|c: char| c.is_ascii_alphabetic());
        let below = self.rest[end..].strip_prefix(':').filter(|_| begins)?;
        let inside = |c: char| c.is_ascii_alphanumeric() || "%/?:@&=+$,-_.!~*'".contains(c);
        let length = below.find(|c| !inside(c)).unwrap_or(below.len());
        (length > 0).then(|| {
            let address = self.rest[..=end + length].to_owned();
            self.skip(end + 1 + length);
            address
        })
    }

    /// A path without quotes, as in `./a/b` or `<nixpkgs>`.
    fn path(&mut self) -> bool {
        let inside = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        let start = if self.rest.starts_with('<') || self.rest.starts_with("~/") {
            1
        } else {
            self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len())
        };
        let below = &self.rest[start..];
        let closed = self.rest.starts_with('<');
        let length = below.find(|c| !inside(c) && c != '/').unwrap_or(below.len());
        let named = below[..length].trim_start_matches('/');
        let is_path = if closed {
            length > 0 && below[length..].starts_with('>')
        } else {
            // Not a division, nor an update (`//`).
            below.starts_with('/') && named.starts_with(inside) && !below.starts_with("//")
        };
        if is_path {
            self.skip(start + length + usize::from(closed));
        }
        is_path
    }

    fn while_(&mut self, inside: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn take(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        let shown = |token: &Token| match token {
            Token::Name(name) => name.clone(),
            Token::Text(Some(text)) => format!("{text:?}"),
            Token::Text(None) => "TEXT".into(),
            Token::Sign(sign) => sign.to_string(),
            Token::Ellipsis => "...".into(),
            Token::Other => "_".into(),
        };
        Some(tokens(text)?.iter().map(shown).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn pieces_are_those_of_nix() {
        for (text, pieces) in [
            ("{ a.b = 1; }", "{ a . b = _ ; }"),
            ("a-b' == c_d // e", "a-b' _ c_d _ _ e"),
            ("# x {\n/* y { */ a", "a"),
            (r#""a \"b\" \n $${c} $d""#, r#""a \"b\" \n $${c} $d""#),
            (r#""a ${ "}" + { x = "${y}"; }.x } b""#, "TEXT"),
            ("''a ''${ ''' ''\\n ${ { }.x } ; ''", "TEXT"),
            ("url = github:NixOS/nixpkgs/a.b?dir=c;", "url = \"github:NixOS/nixpkgs/a.b?dir=c\" ;"),
            ("{ self, ... }@x: x", "{ self , ... } @ x : x"),
            ("x: y", "x : y"),
            ("./a/b ../.. ~/c <d/e> /f a/b", "_ _ _ _ _ _"),
            ("a < b > c", "a _ b _ c"),
            ("[ 1.5 -2 ]", "[ _ . _ _ _ ]"),
            ("é", "_"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(pieces), "{text}");
        }
        for cut in ["\"a", "''a", "\"${", "/* a", "\"a\\"] {
            assert_eq!(shown(cut), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[a-z\"'$\\\\{}();=:./<>~ \n#*é-]{0,60}") {
            let _ = tokens(&text);
        }
    }
}
