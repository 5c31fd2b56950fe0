//! Where the fields of a YAML text stand: a tree of byte ranges from the parser's events.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use evp_api::plan::{Code, Violation};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::align::align;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// A scalar with its quotes, a block scalar from its first character; of others the first character.
    pub(super) span: Range<usize>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(String, ScalarStyle),
    List(Vec<Rc<Node>>),
    Fields(Vec<Field>),
}

#[derive(Debug)]
struct Field {
    name: String,
    at: Range<usize>,
    value: Rc<Node>,
}

impl Node {
    /// The text of a field; `None`: there is none, or it is no scalar.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.value.content {
            Content::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    fn field(&self, name: &str) -> Option<&Field> {
        match &self.content {
            Content::Fields(fields) => fields.iter().find(|f| f.name == name),
            _ => None,
        }
    }

    /// What to point at when the whole value is meant: its first name, item or character.
    fn head(&self) -> Range<usize> {
        match &self.content {
            Content::Fields(fields) if !fields.is_empty() => fields[0].at.clone(),
            Content::List(items) if !items.is_empty() => items[0].head(),
            _ => self.span.clone(),
        }
    }
}

/// Trees of the documents that are not empty, as far as the text can be read.
pub(super) fn documents(text: &str) -> Vec<Rc<Node>> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
    };
    let mut documents = Vec::new();
    while let Some((event, _)) = reader.next() {
        let Event::DocumentStart(..) = event else {
            continue;
        };
        let root = reader.next().and_then(|(event, at)| reader.node(event, at));
        match root {
            Some(root) if is_empty(&root) => {}
            Some(root) => documents.push(root),
            None => break,
        }
    }
    documents
}

fn is_empty(root: &Node) -> bool {
    match &root.content {
        Content::Scalar(text, ScalarStyle::Plain) => {
            matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
        }
        _ => false,
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Rc<Node>>,
}

impl<'t> Reader<'t> {
    /// The next event that is no comment; `None` at the end and where the text cannot be read.
    fn next(&mut self) -> Option<(Event<'t>, Range<usize>)> {
        loop {
            let (event, span) = self.events.next_event()?.ok()?;
            let at = span.byte_range().unwrap_or_default();
            match event {
                Event::StreamEnd => return None,
                Event::Comment(..) | Event::Anchor(..) => {}
                _ => return Some((event, at)),
            }
        }
    }

    /// The node that begins with an event; the parser bounds the depth.
    fn node(&mut self, event: Event<'t>, at: Range<usize>) -> Option<Rc<Node>> {
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (Content::Scalar(text.into_owned(), style), anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list()?, anchor),
            Event::MappingStart(_, anchor, _) => (self.fields()?, anchor),
            Event::Alias(anchor) => return self.anchors.get(&anchor).cloned(),
            _ => return None,
        };
        let node = Rc::new(Node { span: at, content });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Some(node)
    }

    fn list(&mut self) -> Option<Content> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(Content::List(items)),
                (event, at) => items.push(self.node(event, at)?),
            }
        }
    }

    fn fields(&mut self) -> Option<Content> {
        let mut fields = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Some(Content::Fields(fields));
            }
            let key = self.node(event, at)?;
            let (event, at) = self.next()?;
            let value = self.node(event, at)?;
            let name = match &key.content {
                Content::Scalar(text, _) => text.clone(),
                _ => String::new(),
            };
            fields.push(Field {
                name,
                at: key.span.clone(),
                value,
            });
        }
    }
}

/// As far as a path leads into a tree.
struct Reached<'n> {
    node: &'n Node,
    /// Name of the field that holds the node; `None` for the root and items of lists.
    name: Option<Range<usize>>,
    whole: bool,
}

fn reach<'n>(root: &'n Node, path: &str) -> Reached<'n> {
    let mut reached = Reached {
        node: root,
        name: None,
        whole: true,
    };
    for segment in path.split(['.', '[']).filter(|s| !s.is_empty()) {
        let next = match segment.strip_suffix(']') {
            Some(index) => match &reached.node.content {
                Content::List(items) => index
                    .parse()
                    .ok()
                    .and_then(|i: usize| items.get(i))
                    .map(|item| (item, None)),
                _ => None,
            },
            None => reached
                .node
                .field(segment)
                .map(|field| (&field.value, Some(field.at.clone()))),
        };
        let Some((node, name)) = next else {
            reached.whole = false;
            break;
        };
        (reached.node, reached.name) = (node, name);
    }
    reached
}

/// Where a violation points: a range within one line.
pub(super) fn place(text: &str, root: &Node, violation: &Violation) -> Range<usize> {
    let reached = reach(root, &violation.path);
    let range = match (&reached.node.content, violation.span) {
        _ if !reached.whole || violation.code == Code::UnknownField => None,
        (Content::Scalar(value, style), Some((from, to))) => {
            let map = align(text, &reached.node.span, value, *style);
            let at = |byte: usize| map.get(byte).or(map.last()).copied().unwrap_or_default();
            Some(at(from)..at(to))
        }
        (Content::Scalar(..), None) if !reached.node.span.is_empty() => {
            Some(reached.node.span.clone())
        }
        _ => None,
    };
    let range = range
        .or(reached.name)
        .unwrap_or_else(|| reached.node.head());
    within_line(text, range)
}

/// Cuts a range to its first line, and gives it a character to point at where the line has one.
pub(super) fn within_line(text: &str, range: Range<usize>) -> Range<usize> {
    let start = range.start.min(text.len());
    let line = text[start..].split(['\n', '\r']).next().unwrap_or_default();
    let first = line.chars().next().map_or(0, char::len_utf8);
    let length = range.end.saturating_sub(start).min(line.len()).max(first);
    let trimmed = line[..length].trim_end().len().max(first);
    start..start + trimmed
}
