//! One Rust file: its lines, its tokens, its functions, and which lines of it are tests.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::Offence;

/// Crates of the sans-IO core. They, and the simulator that runs them, touch nothing of the outside world.
pub(crate) const CORES: [&str; 5] = ["model", "allocator", "master", "agent", "session"];

/// The simulator: not a core by its budget, but as pure.
pub(crate) const SIMULATOR: &str = "sim";

/// A function outside tests, from its signature to its last brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// A token outside groups, or the edge of a group: what the rules look for needs no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A parsed file.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) lines: Vec<String>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) functions: Vec<Function>,
    /// Names of modules declared or defined here, with their lines.
    pub(crate) modules: Vec<(String, usize)>,
    pub(crate) has_header: bool,
    /// The whole file is test code.
    pub(crate) is_test: bool,
    /// Paths, without `.rs`, of the modules declared here behind `#[cfg(test)]`.
    pub(crate) test_modules: Vec<String>,
    test_lines: Vec<(usize, usize)>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Result<Source, Offence> {
        let file = syn::parse_file(text)
            .map_err(|error| Offence::new(path, error.span().start().line, format!("does not parse: {error}")))?;
        let stream: TokenStream =
            text.parse().map_err(|error| Offence::new(path, 1, format!("does not parse: {error}")))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut walk = Walk { children: children(path), ..Walk::default() };
        walk.visit_file(&file);
        Ok(Source {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            tokens,
            functions: walk.functions,
            modules: walk.modules,
            has_header: file
                .attrs
                .iter()
                .any(|attr| matches!(attr.style, syn::AttrStyle::Inner(_)) && attr.path().is_ident("doc")),
            is_test: in_test_directory(path) || is_test(&file.attrs),
            test_modules: walk.test_modules,
            test_lines: walk.test_lines,
        })
    }

    /// The crate (its directory) this file belongs to: `master` for `crates/master/src/lib.rs`.
    pub(crate) fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    pub(crate) fn is_core(&self) -> bool {
        self.crate_name().is_some_and(|name| CORES.contains(&name))
    }

    pub(crate) fn is_pure(&self) -> bool {
        self.is_core() || self.crate_name() == Some(SIMULATOR)
    }

    /// Whether line `line` (from 1) is test code.
    pub(crate) fn in_test(&self, line: usize) -> bool {
        self.is_test || self.test_lines.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// How many lines are not test code.
    pub(crate) fn product_lines(&self) -> usize {
        (1..=self.lines.len()).filter(|line| !self.in_test(*line)).count()
    }

    /// The comment at the end of line `line`, or the one above it; attributes may stand between.
    pub(crate) fn comment_near(&self, line: usize) -> Option<&str> {
        let index = line.checked_sub(1)?;
        let beside = self.lines.get(index)?.rsplit_once("// ").map(|(_, comment)| comment);
        let mut above = self.lines[..index].iter().rev().map(|line| line.trim());
        let above = above.find(|line| !line.starts_with("#["));
        let above = above.filter(|line| line.starts_with("//")).map(|line| line.trim_start_matches('/').trim());
        beside.or(above).filter(|comment| !comment.is_empty())
    }
}

/// Integration tests, benches and the files whose name says so.
fn in_test_directory(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
}

/// Where the modules declared in the file at `path` are.
fn children(path: &str) -> String {
    let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
    match file {
        "lib.rs" | "main.rs" | "mod.rs" | "build.rs" => dir.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    }
}

fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let last = attr.path().segments.last().map(|segment| segment.ident.to_string());
        match last.as_deref() {
            Some("test") => true,
            Some("cfg") => attr.parse_args::<syn::Meta>().is_ok_and(|meta| only_in_tests(&meta)),
            _ => false,
        }
    })
}

/// `test`, or `all(...)` with it; not `not(test)`, nor `any(...)`, which product builds may satisfy.
fn only_in_tests(meta: &syn::Meta) -> bool {
    match meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(only_in_tests)),
        _ => false,
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let mut push = |text: String, span: Span| tokens.push(Token { text, line: span.start().line });
        match tree {
            TokenTree::Ident(ident) => push(ident.to_string(), ident.span()),
            TokenTree::Punct(punct) => push(punct.to_string(), punct.span()),
            // Contents do not matter to any rule, and a string must not look like code.
            TokenTree::Literal(literal) => push("\"\"".to_owned(), literal.span()),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), group.span_open());
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
        }
    }
}

#[derive(Default)]
struct Walk {
    children: String,
    functions: Vec<Function>,
    modules: Vec<(String, usize)>,
    test_modules: Vec<String>,
    test_lines: Vec<(usize, usize)>,
    in_test: bool,
}

impl Walk {
    /// Visits an item with `deeper`, having noted whether it is a test.
    fn item(&mut self, attrs: &[syn::Attribute], span: Span, deeper: impl FnOnce(&mut Self)) {
        let before = self.in_test;
        if is_test(attrs) {
            self.in_test = true;
            self.test_lines.push((span.start().line, span.end().line));
        }
        deeper(self);
        self.in_test = before;
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        if !self.in_test {
            let (line, last) = (signature.span().start().line, block.span().end().line);
            self.functions.push(Function { name: signature.ident.to_string(), line, lines: last - line + 1 });
        }
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attrs: &[syn::Attribute] = match item {
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Macro(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Static(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Trait(item) => &item.attrs,
            syn::Item::Type(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &[],
        };
        self.item(attrs, item.span(), |walk| visit::visit_item(walk, item));
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.modules.push((module.ident.to_string(), module.ident.span().start().line));
        if self.in_test && module.content.is_none() {
            self.test_modules.push(format!("{}/{}", self.children, module.ident));
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.item(&function.attrs, function.span(), |walk| {
            walk.function(&function.sig, &function.block);
            visit::visit_impl_item_fn(walk, function);
        });
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
//! Header.
fn product() {
    let one = 1;
}

#[cfg(test)]
mod tests {
    #[test]
    fn long() {}
}

#[cfg(not(test))]
fn also_product() {}
";

    #[test]
    fn tests_count_neither_as_lines_nor_as_functions() {
        let source = Source::parse("crates/a/src/lib.rs", FILE).unwrap();
        let functions: Vec<_> = source.functions.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(functions, [("product", 2, 3), ("also_product", 13, 1)]);
        assert_eq!(source.product_lines(), 8);
        assert!(source.in_test(6) && source.in_test(10) && !source.in_test(11));
        assert!(source.has_header);
    }

    #[test]
    fn a_crate_is_known_by_its_directory() {
        let core = Source::parse("crates/master/src/lib.rs", "").unwrap();
        assert!(core.is_core() && core.is_pure());
        let sim = Source::parse("crates/sim/src/lib.rs", "").unwrap();
        assert!(!sim.is_core() && sim.is_pure());
        assert!(!Source::parse("crates/masterd/src/lib.rs", "").unwrap().is_pure());
    }

    #[test]
    fn methods_behind_cfg_test_are_tests() {
        let source = Source::parse("crates/a/src/lib.rs", "impl A {\n#[cfg(test)]\nfn f() {}\nfn g() {}\n}").unwrap();
        assert!(source.in_test(3) && !source.in_test(4));
    }
}
