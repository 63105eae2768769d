//! The `.proto` files keep their numbers, and every part of them is explained.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

const HEADER: &str = "# Every name and number of the .proto files. A line that is here may only go when its number and its \
                      name are reserved.\n# Add lines by running the test `renumbering` with BLESS=1.\n";

fn lock_file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/holm/v1/fields.lock")
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(holm_proto::FILE_DESCRIPTOR_SET).unwrap()
}

fn field_line(field: &FieldDescriptor) -> String {
    let many = match field.cardinality() {
        Cardinality::Repeated => "repeated ",
        Cardinality::Optional | Cardinality::Required => "",
    };
    format!("field {} {} {} {many}{:?}", field.parent_message().full_name(), field.number(), field.name(), field.kind())
}

/// Everything that must not change, one line each.
fn lines(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for message in pool.all_messages() {
        lines.extend(message.fields().map(|field| field_line(&field)));
    }
    for list in pool.all_enums() {
        lines.extend(
            list.values().map(|value| format!("value {} {} {}", list.full_name(), value.number(), value.name())),
        );
    }
    for service in pool.services() {
        for method in service.methods() {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            lines.insert(format!(
                "rpc {} {} {}{} {}{}",
                service.full_name(),
                method.name(),
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name(),
            ));
        }
    }
    lines
}

/// Whether the name and the number of a line that is gone can never come back with another meaning.
fn is_reserved(pool: &DescriptorPool, line: &str) -> bool {
    let mut words = line.split(' ');
    let (Some(kind), Some(parent), Some(number), Some(name)) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    match kind {
        "field" => pool.get_message_by_name(parent).is_some_and(|message| reserves(&message, number, name)),
        "value" => pool.get_enum_by_name(parent).is_some_and(|list| reserves_value(&list, number, name)),
        _ => false,
    }
}

fn reserves(message: &MessageDescriptor, number: &str, name: &str) -> bool {
    let number: u32 = number.parse().unwrap();
    message.reserved_ranges().any(|range| range.contains(&number)) && message.reserved_names().any(|it| it == name)
}

fn reserves_value(list: &EnumDescriptor, number: &str, name: &str) -> bool {
    let number: i32 = number.parse().unwrap();
    list.reserved_ranges().any(|range| range.contains(&number)) && list.reserved_names().any(|it| it == name)
}

/// What is wrong with `current` for those who know `locked`.
fn broken(pool: &DescriptorPool, locked: &BTreeSet<String>) -> Vec<String> {
    let current = lines(pool);
    locked.difference(&current).filter(|line| !is_reserved(pool, line)).cloned().collect()
}

fn locked() -> BTreeSet<String> {
    let text = std::fs::read_to_string(lock_file()).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn nothing_on_the_wire_is_renumbered_renamed_or_retyped() {
    let pool = pool();
    let (locked, current) = (locked(), lines(&pool));
    let broken = broken(&pool, &locked);
    assert!(broken.is_empty(), "gone or changed without `reserved`:\n{}", broken.join("\n"));
    if std::env::var_os("BLESS").is_some() {
        let text: Vec<String> = current.into_iter().collect();
        std::fs::write(lock_file(), format!("{HEADER}{}\n", text.join("\n"))).unwrap();
        return;
    }
    let new: Vec<_> = current.difference(&locked).cloned().collect();
    assert!(new.is_empty(), "new, to be added to fields.lock with BLESS=1:\n{}", new.join("\n"));
    let reserved: Vec<_> = locked.difference(&current).cloned().collect();
    assert!(
        reserved.is_empty(),
        "reserved by now, to be dropped from fields.lock with BLESS=1:\n{}",
        reserved.join("\n")
    );
}

fn compiled(fields: &str) -> DescriptorPool {
    let field = |(name, number, kind): (&str, i32, i32)| prost_types::FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(1),
        r#type: Some(kind),
        ..Default::default()
    };
    let mut message = DescriptorProto { name: Some("M".to_owned()), ..Default::default() };
    for part in fields.split(' ') {
        let (name, number) = part.split_once('=').unwrap();
        let number: i32 = number.parse().unwrap();
        match name.strip_prefix('!') {
            Some(name) => {
                message.reserved_name.push(name.to_owned());
                let range = prost_types::descriptor_proto::ReservedRange { start: Some(number), end: Some(number + 1) };
                message.reserved_range.push(range);
            }
            None => message.field.push(field((name, number, 4))),
        }
    }
    let file = FileDescriptorProto {
        name: Some("m.proto".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![message],
        ..Default::default()
    };
    DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: vec![file] }).unwrap()
}

#[test]
fn a_number_is_given_up_only_for_good() {
    let locked = lines(&compiled("a=1 b=2"));
    assert_eq!(broken(&compiled("a=1 b=2 c=3"), &locked), Vec::<String>::new());
    assert_eq!(broken(&compiled("a=1 !b=2"), &locked), Vec::<String>::new());
    assert_eq!(broken(&compiled("a=1"), &locked), ["field M 2 b uint64"]);
    assert_eq!(broken(&compiled("a=1 b=3"), &locked), ["field M 2 b uint64"]);
    assert_eq!(broken(&compiled("a=1 renamed=2"), &locked), ["field M 2 b uint64"]);
}

/// The paths of everything in a file that a reader wants explained, with its name.
fn elements(file: &FileDescriptorProto) -> BTreeMap<Vec<i32>, String> {
    let mut elements = BTreeMap::new();
    for (at, message) in (0..).zip(&file.message_type) {
        message_elements(message, vec![4, at], &mut elements);
    }
    for (at, list) in (0..).zip(&file.enum_type) {
        enum_elements(list, vec![5, at], &mut elements);
    }
    for (at, service) in (0..).zip(&file.service) {
        elements.insert(vec![6, at], service.name().to_owned());
        for (method_at, method) in (0..).zip(&service.method) {
            elements.insert(vec![6, at, 2, method_at], format!("{}.{}", service.name(), method.name()));
        }
    }
    elements
}

fn message_elements(message: &DescriptorProto, path: Vec<i32>, elements: &mut BTreeMap<Vec<i32>, String>) {
    let below = |kind: i32, at: i32| [&path[..], &[kind, at]].concat();
    for (at, field) in (0..).zip(&message.field) {
        elements.insert(below(2, at), format!("{}.{}", message.name(), field.name()));
    }
    for (at, nested) in (0..).zip(&message.nested_type) {
        if !nested.options.as_ref().is_some_and(|options| options.map_entry()) {
            message_elements(nested, below(3, at), elements);
        }
    }
    elements.insert(path, message.name().to_owned());
}

fn enum_elements(list: &EnumDescriptorProto, path: Vec<i32>, elements: &mut BTreeMap<Vec<i32>, String>) {
    for (at, value) in (0..).zip(&list.value) {
        elements.insert([&path[..], &[2, at]].concat(), value.name().to_owned());
    }
    elements.insert(path, list.name().to_owned());
}

#[test]
fn every_part_of_the_specification_is_explained() {
    let set: FileDescriptorSet = prost::Message::decode(holm_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut silent = Vec::new();
    for file in set.file {
        let info = file.source_code_info.clone().unwrap();
        let explained: BTreeSet<_> =
            info.location.into_iter().filter(|at| !at.leading_comments().trim().is_empty()).map(|at| at.path).collect();
        let missing = elements(&file).into_iter().filter(|(path, _)| !explained.contains(path));
        silent.extend(missing.map(|(_, name)| format!("{}: {name}", file.name())));
    }
    assert!(silent.is_empty(), "no comment above:\n{}", silent.join("\n"));
}
