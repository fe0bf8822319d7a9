//! A checker for the page's markup: every element is closed, every attribute is quoted.

use std::collections::BTreeSet;

/// Elements that have no end tag.
const VOID: &[&str] = &["meta", "img", "br", "hr", "link", "input"];

/// A start tag.
struct Tag<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

/// A page whose tags are balanced.
pub(crate) struct Page<'a> {
    tags: Vec<Tag<'a>>,
}

impl<'a> Page<'a> {
    /// Reads `html`; panics where it is not well formed.
    pub(crate) fn parse(html: &'a str) -> Self {
        let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("the page begins with its type");
        let (mut tags, mut open) = (Vec::new(), Vec::new());
        while let Some(at) = rest.find('<') {
            assert!(!rest[..at].contains('>'), "a stray > in {:?}", &rest[..at]);
            let (tag, after) = rest[at + 1..].split_once('>').expect("tags end");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                let expected: Option<&str> = open.pop();
                assert_eq!(expected, Some(name), "an end tag without its start");
                continue;
            }
            let (tag, is_closed) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
            let tag = parse_tag(tag);
            if tag.name == "style" {
                rest = &rest[rest.find("</style>").expect("styles end")..];
            }
            if !is_closed && !VOID.contains(&tag.name) {
                open.push(tag.name);
            }
            tags.push(tag);
        }
        assert!(open.is_empty(), "not closed: {open:?}");
        let page = Self { tags };
        let ids: Vec<&str> = page.attributes("*", "id").collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique");
        page
    }

    /// Elements of this name.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.tags.iter().filter(|t| t.name == name).count()
    }

    /// Values of an attribute of elements of this name, or of all (`*`).
    pub(crate) fn attributes(&self, name: &str, attribute: &str) -> impl Iterator<Item = &'a str> {
        let tags = self.tags.iter().filter(move |t| name == "*" || t.name == name);
        tags.flat_map(|t| t.attributes.iter()).filter(move |a| a.0 == attribute).map(|a| a.1)
    }

    /// Names of the sections, in order.
    pub(crate) fn section_ids(&self) -> Vec<&'a str> {
        self.attributes("section", "id").collect()
    }

    /// True if an element has this id.
    pub(crate) fn has_id(&self, id: &str) -> bool {
        self.attributes("*", "id").any(|i| i == id)
    }
}

fn parse_tag(tag: &str) -> Tag<'_> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let is_name = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    assert!(!name.is_empty() && is_name(name), "not a tag: {tag:?}");
    let mut attributes = Vec::new();
    while !rest.trim().is_empty() {
        if let Some(after) = rest.trim_start().strip_prefix("open") {
            rest = after;
            continue;
        }
        let (key, after) = rest.trim_start().split_once("=\"").expect("attributes are quoted");
        let (value, after) = after.split_once('"').expect("quotes end");
        assert!(
            key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
            "not an attribute: {key:?} in {tag:?}"
        );
        attributes.push((key, value));
        rest = after;
    }
    Tag { name, attributes }
}
