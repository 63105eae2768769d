//! What people are shown of roles.

use holm_model::parse_amounts;

use super::*;

fn amounts(text: &str) -> Option<v1::Amounts> {
    Some(roles::limit_to_wire(&parse_amounts(text).unwrap()))
}

fn summary(role: &str) -> v1::RoleSummary {
    v1::RoleSummary { role: role.to_owned(), weight_thousandths: 1000, ..v1::RoleSummary::default() }
}

fn view(text: &str) -> Option<v1::ResourceView> {
    Some((&text.parse::<Resources>().unwrap()).into())
}

#[test]
fn roles_are_a_tree() {
    let eng = v1::RoleSummary {
        weight_thousandths: 2500,
        dominant_share_ppm: 250_000,
        dominant_resource: "cpus".to_owned(),
        deserved_share_ppm: 714_286,
        guarantee: amounts("cpus:4;mem:8GiB"),
        limit: amounts("cpus:8;gpus:0"),
        used: view("cpus:2;mem:1GiB"),
        ..summary("eng")
    };
    let backend = v1::RoleSummary {
        framework_ids: vec!["framework-1-1".to_owned(), "framework-1-2".to_owned()],
        used: view("cpus:2;mem:1GiB"),
        offered: view("cpus:1"),
        ..summary("eng/backend")
    };
    let rows: Vec<RoleRow> = [eng, backend, summary("ops")].into_iter().map(RoleRow::from).collect();
    let expected = "\
ROLE       WEIGHT  SHARE  DESERVED  OF    GUARANTEE        LIMIT          USED             OFFERED  FRAMEWORKS
eng        2.5     25.0%  71.4%     cpus  cpus:4;mem:8GiB  cpus:8;gpus:0  cpus:2;mem:1GiB  -        0
  backend  1       0.0%   0.0%      -     -                -              cpus:2;mem:1GiB  cpus:1   2
ops        1       0.0%   0.0%      -     -                -              -                -        0
";
    assert_eq!(roles_table(&rows, false).render(), expected);
    assert!(roles_table(&rows, true).render().contains("framework-1-1,framework-1-2"));
    let json = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!(json["limit"], serde_json::json!({"cpus": 8, "gpus": 0}));
    assert_eq!(json["guarantee"]["mem"], 8_u64 << 30);
    assert_eq!((json["weight"].as_f64(), json["deserved_share"].as_f64()), (Some(2.5), Some(0.714286)));
}

#[test]
fn a_dry_run_says_what_would_happen() {
    let setting = |weight_thousandths, guarantee, limit| {
        Some(v1::RoleSetting { weight_thousandths, guarantee: amounts(guarantee), limit: amounts(limit) })
    };
    let gap = |role: &str, text: &str| v1::QuotaGap {
        role: role.to_owned(),
        resource: "cpus".to_owned(),
        used: 5000,
        bound: 4000,
        text: text.to_owned(),
    };
    let reply = v1::UpdateRolesReply {
        changed: vec![v1::RoleChange {
            role: "eng".to_owned(),
            before: setting(1000, "", "cpus:8"),
            after: setting(2000, "cpus:2", "cpus:4;gpus:0"),
        }],
        over_limit: vec![gap("eng", "cpus: 5 used, 4 allowed, 1 over")],
        unmet: vec![gap("ops", "cpus: 5 used, 6 guaranteed, 1 short")],
        over_committed: vec![v1::OverCommit { resource: "cpus".to_owned(), guaranteed: 11_000, capacity: 10_000 }],
        rescinded_offers: vec!["offer-1-2".to_owned(), "offer-1-1".to_owned()],
        dry_run: true,
    };
    let expected = "\
eng: weight 1 -> 2, guarantee none -> cpus:2, limit cpus:8 -> cpus:4;gpus:0
eng: would be over its limit: cpus: 5 used, 4 allowed, 1 over
ops: would be short of its guarantee: cpus: 5 used, 6 guaranteed, 1 short
over-committed: cpus: 11 guaranteed, the cluster has 10
would be rescinded: 2 offers: offer-1-2, offer-1-1
dry run: nothing was changed
";
    assert_eq!(Outcome::from(reply).text(), expected);
    assert_eq!(Outcome::from(v1::UpdateRolesReply::default()).text(), "nothing to change\n");
}

#[test]
fn names_are_below_one_another_by_whole_parts() {
    assert!(is_below("eng/a", "eng") && is_below("eng/a/b", "eng"));
    assert!(!is_below("eng", "eng") && !is_below("engine", "eng"));
}
