//! Inputs that a `flake.nix` declares, read without Nix.
//!
//! Nix wants that part of a flake to be written out: sets and texts, nothing that
//! takes evaluating. So it can be read here, before anything of the commit is run.
//! What is written otherwise cannot be told, and is left to Nix.

use std::collections::BTreeMap;

use super::tokens::{Token, tokens};

/// Sets in sets, at most.
const DEEPEST: usize = 16;

/// An input of a flake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    /// Where it comes from.
    pub(super) from: From,
    /// The names of its own inputs that it gets from another one.
    pub(super) follows: Vec<String>,
    /// Whether it has inputs of its own.
    pub(super) is_flake: bool,
}

/// Where an input comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum From {
    /// Beside the flake, at this path relative to it.
    Beside(String),
    /// The same as another input, which it follows.
    Another,
    /// Anywhere else; its own name, if nothing is said.
    #[default]
    Elsewhere,
}

/// The inputs that the text of a `flake.nix` declares, by name; `None` if that
/// cannot be told.
pub(super) fn declared(text: &str) -> Option<BTreeMap<String, Input>> {
    let tokens = tokens(text)?;
    let mut reader = Reader { tokens: &tokens };
    let flake = reader.flake()?;
    let mut inputs = BTreeMap::new();
    let set = match flake.inputs {
        Value::Set(set) => set,
        Value::Text(_) | Value::False | Value::Other => return None,
    };
    for (name, value) in set {
        inputs.insert(name, input(value)?);
    }
    // Those that are asked for and not declared come by their names.
    for name in flake.arguments.into_iter().filter(|name| name != "self") {
        inputs.entry(name).or_insert_with(|| Input { is_flake: true, ..Input::default() });
    }
    // It may be declared, to say how it is fetched.
    inputs.remove("self");
    Some(inputs)
}

fn input(value: Value) -> Option<Input> {
    let Value::Set(mut set) = value else { return None };
    let mut text = |name: &str| match set.remove(name) {
        Some(Value::Text(text)) => Some(text),
        Some(Value::Set(_) | Value::False | Value::Other) | None => None,
    };
    let (url, kind, path, follows) = (text("url"), text("type"), text("path"), text("follows"));
    let beside = match (url, kind.as_deref(), path) {
        (Some(url), ..) => beside(&url),
        (None, Some("path"), Some(path)) if !path.starts_with('/') => Some(path),
        (None, ..) => None,
    };
    let from = match (follows, beside) {
        (Some(_), _) => From::Another,
        (None, Some(path)) => From::Beside(path),
        (None, None) => From::Elsewhere,
    };
    let is_flake = !matches!(set.get("flake"), Some(Value::False));
    let follows = match set.remove("inputs") {
        Some(Value::Set(inputs)) => {
            let follows = |(name, value): (String, Value)| match value {
                Value::Set(set) => set.contains_key("follows").then_some(name),
                Value::Text(_) | Value::False | Value::Other => None,
            };
            inputs.into_iter().filter_map(follows).collect()
        }
        Some(Value::Text(_) | Value::False | Value::Other) | None => Vec::new(),
    };
    Some(Input { from, follows, is_flake })
}

/// The path of an address that has no other place than beside its flake.
fn beside(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.strip_prefix("path:") {
        Some(path) if !path.starts_with('/') => Some(path.to_owned()),
        None if path.starts_with("./") || path.starts_with("../") => Some(path.to_owned()),
        None if path == "." || path == ".." => Some(path.to_owned()),
        Some(_) | None => None,
    }
}

/// Value that is written out in a flake.
enum Value {
    Text(String),
    False,
    Set(BTreeMap<String, Value>),
    /// Any value that takes evaluating, or is of no interest here.
    Other,
}

struct Flake {
    inputs: Value,
    /// The names that its outputs ask for.
    arguments: Vec<String>,
}

struct Reader<'a> {
    tokens: &'a [Token],
}

impl<'a> Reader<'a> {
    fn flake(&mut self) -> Option<Flake> {
        let mut flake = Flake { inputs: Value::Set(BTreeMap::new()), arguments: Vec::new() };
        self.sign('{')?;
        while !self.is_next('}') {
            let path = self.attribute_path()?;
            self.sign('=')?;
            match path.first().map(String::as_str) {
                Some("inputs") => {
                    let value = self.value(0)?;
                    insert(&mut flake.inputs, &path[1..], value)?;
                }
                Some("outputs") if path.len() == 1 => {
                    flake.arguments = self.arguments()?;
                    self.skip_expression()?;
                }
                Some(_) | None => self.skip_expression()?,
            }
            self.sign(';')?;
        }
        self.sign('}')?;
        self.tokens.is_empty().then_some(flake)
    }

    /// Reads an attribute path, such as `a.b."c"`.
    fn attribute_path(&mut self) -> Option<Vec<String>> {
        let mut path = Vec::new();
        loop {
            match self.next()? {
                // Takes names from elsewhere.
                Token::Name(name) if name == "inherit" => return None,
                Token::Name(name) | Token::Text(Some(name)) => path.push(name.clone()),
                Token::Text(None) | Token::Sign(_) | Token::Ellipsis | Token::Other => return None,
            }
            if !self.is_next('.') {
                return Some(path);
            }
            self.next()?;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let value = match self.tokens.first()? {
            Token::Text(Some(text)) => Value::Text(text.clone()),
            Token::Name(name) if name == "false" => Value::False,
            Token::Sign('{') if depth < DEEPEST => {
                self.next()?;
                let mut set = Value::Set(BTreeMap::new());
                while !self.is_next('}') {
                    let path = self.attribute_path()?;
                    self.sign('=')?;
                    let value = self.value(depth + 1)?;
                    self.sign(';')?;
                    insert(&mut set, &path, value)?;
                }
                set
            }
            Token::Name(_)
            | Token::Text(None)
            | Token::Sign(_)
            | Token::Ellipsis
            | Token::Other => {
                self.skip_expression()?;
                return Some(Value::Other);
            }
        };
        self.next()?;
        // That was all of it, or it takes evaluating.
        if self.is_next(';') {
            return Some(value);
        }
        self.skip_expression()?;
        Some(Value::Other)
    }

    /// The names that a function asks for, up to its colon.
    fn arguments(&mut self) -> Option<Vec<String>> {
        if let [Token::Name(_), Token::Sign(':'), ..] = self.tokens {
            self.tokens = &self.tokens[2..];
            return Some(Vec::new());
        }
        if let [Token::Name(_), Token::Sign('@'), ..] = self.tokens {
            self.tokens = &self.tokens[2..];
        }
        self.sign('{')?;
        let mut names = Vec::new();
        while !self.is_next('}') {
            match self.next()? {
                Token::Name(name) => names.push(name.clone()),
                Token::Ellipsis => {}
                Token::Text(_) | Token::Sign(_) | Token::Other => return None,
            }
            if self.is_next('?') {
                self.skip_until(&[',', '}'])?;
            }
            if !self.is_next('}') {
                self.sign(',')?;
            }
        }
        self.sign('}')?;
        if let [Token::Sign('@'), Token::Name(_), ..] = self.tokens {
            self.tokens = &self.tokens[2..];
        }
        self.sign(':')?;
        Some(names)
    }

    /// Up to the semicolon that ends it.
    fn skip_expression(&mut self) -> Option<()> {
        self.skip_until(&[';'])
    }

    /// Up to one of these signs that is inside of nothing.
    fn skip_until(&mut self, ends: &[char]) -> Option<()> {
        // What has been opened: brackets, and `let`, which `in` closes.
        let mut open: Vec<char> = Vec::new();
        // `with` and `assert`, whose semicolons end nothing.
        let mut more = 0_u32;
        loop {
            match self.tokens.first()? {
                Token::Sign(';') if open.is_empty() && more > 0 => more -= 1,
                Token::Sign(sign) if open.is_empty() && ends.contains(sign) => return Some(()),
                Token::Sign(sign @ ('{' | '(' | '[')) => open.push(*sign),
                Token::Sign(close @ ('}' | ')' | ']')) => {
                    let opened = match close {
                        '}' => '{',
                        ')' => '(',
                        _ => '[',
                    };
                    if open.pop() != Some(opened) {
                        return None;
                    }
                }
                Token::Name(name) if name == "let" => open.push('l'),
                Token::Name(name) if name == "in" => {
                    if open.pop() != Some('l') {
                        return None;
                    }
                }
                Token::Name(name) if open.is_empty() && (name == "with" || name == "assert") => {
                    more += 1;
                }
                Token::Name(_)
                | Token::Text(_)
                | Token::Sign(_)
                | Token::Ellipsis
                | Token::Other => {}
            }
            self.next()?;
        }
    }

    fn is_next(&self, sign: char) -> bool {
        self.tokens.first() == Some(&Token::Sign(sign))
    }

    fn sign(&mut self, sign: char) -> Option<()> {
        (self.next()? == &Token::Sign(sign)).then_some(())
    }

    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }
}

/// Puts a value where a path leads; `None` if something else is there.
fn insert(at: &mut Value, path: &[String], value: Value) -> Option<()> {
    let Value::Set(set) = at else { return None };
    let Some((name, rest)) = path.split_first() else {
        // A set that is given in pieces is one.
        let Value::Set(more) = value else { return None };
        for (name, value) in more {
            insert(at, &[name], value)?;
        }
        return Some(());
    };
    if rest.is_empty() && !set.contains_key(name) {
        set.insert(name.clone(), value);
        return Some(());
    }
    insert(set.entry(name.clone()).or_insert_with(|| Value::Set(BTreeMap::new())), rest, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<Vec<String>> {
        let shown = |(name, input): (String, Input)| {
            let from = match input.from {
                From::Beside(path) => format!("={path}"),
                From::Another => "->".into(),
                From::Elsewhere => String::new(),
            };
            let follows = input.follows.iter().map(|name| format!(" {name}->")).collect::<String>();
            format!("{name}{from}{follows}{}", if input.is_flake { "" } else { " file" })
        };
        Some(declared(text)?.into_iter().map(shown).collect())
    }

    #[test]
    fn inputs_are_found_however_they_are_written() {
        for (text, inputs) in [
            ("{ outputs = { self }: { }; }", &[][..]),
            ("{ outputs = x: x; }", &[]),
            ("{ outputs = { self, nixpkgs, utils ? null, ... }: { }; }", &["nixpkgs", "utils"]),
            ("{ outputs = inputs@{ self, a }: a; }", &["a"]),
            ("{ outputs = { self, a }@inputs: a; }", &["a"]),
            ("{ inputs.a.url = \"github:x/y\"; outputs = _: { }; }", &["a"]),
            (
                "{ inputs = { a.url = github:x/y; b = { url = \"path:./b\"; flake = false; }; \
                 \"c d\".follows = \"a/x\"; }; inputs.a.inputs.n.follows = \"b\"; \
                 outputs = { self, ... }: { }; }",
                &["a n->", "b=./b file", "c d->"],
            ),
            (
                "{ inputs.a = { type = \"path\"; path = \"./a\"; }; \
                 inputs.b = { type = \"path\"; path = \"/b\"; }; \
                 inputs.c.url = \"../..?dir=x\"; inputs.d.url = \"path:/d\"; \
                 inputs.e.url = \"path:e/f\"; inputs.f.url = \".\"; inputs.self.submodules = true; \
                 outputs = { self, ... }: { }; }",
                &["a=./a", "b", "c=../..", "d", "e=e/f", "f=."],
            ),
            (
                "{ # a comment\n description = \"with ${\"x\"}; and }\"; nixConfig.a = [ 1 { b = 2; } ];\n\
                 outputs = { self, n }: let a = { b = 1; }; c = with a; b; in\n\
                 assert a ? b; with builtins; { x = let y = 1; in y; }; inputs.n.url = \"n\"; }",
                &["n"],
            ),
            ("{ inputs = { }; outputs = { self }: if true then { } else ''; }''; }", &[]),
        ] {
            let inputs: Vec<String> = inputs.iter().map(|input| (*input).to_owned()).collect();
            assert_eq!(shown(text), Some(inputs), "{text}");
        }
    }

    #[test]
    fn what_takes_evaluating_is_left_to_nix() {
        for text in [
            "",
            "let x = 1; in { outputs = _: x; }",
            "{ inputs = import ./inputs.nix; outputs = { self }: { }; }",
            "{ inputs.a = x; outputs = { self }: { }; }",
            "{ inherit inputs; outputs = { self }: { }; }",
            "{ inputs = { inherit a; }; outputs = { self }: { }; }",
            "{ outputs = import ./outputs.nix; }",
            "{ outputs = { self }: { }; ",
            "{ outputs = { self }: ( }; }",
            "{ outputs = { self }: { }; } x",
            "{ inputs.a = \"x\"; outputs = { self }: { }; }",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
        let deep = format!(
            "{{ inputs = {}{}; outputs = _: 1; }}",
            "{ a = ".repeat(5000),
            "; }".repeat(5000)
        );
        assert_eq!(shown(&deep), Some(vec!["a".into()]), "it ends somewhere");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ainpuotse\"'{}();=:@.,? ]{0,80}") {
            let _ = declared(&text);
            let _ = declared(&format!("{{ inputs = {{ {text} }}; outputs = {{ {text} }}: 1; }}"));
        }
    }
}
