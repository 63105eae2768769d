//! Origins arrive as they were sent, and what cannot be is refused by its place.

use holm_model::*;
use holm_proto::{Message, portions, v1};

fn sent(portions: &Portions) -> Vec<v1::Portion> {
    let read = |portion: v1::Portion| v1::Portion::decode(portion.encode_to_vec().as_slice()).unwrap();
    portions::to_wire(portions).into_iter().map(read).collect()
}

#[test]
fn portions_arrive_as_they_were_sent() {
    let text =
        "cpus:4;cpus(eng,static):2;ports(eng,rack=a):[1-5];disk(eng,static>eng/db,rack=a)#data:1GiB;cpus{revocable}:1";
    let portions: Portions = text.parse().unwrap();
    assert_eq!(portions::from_wire(sent(&portions)), Ok(portions));
}

#[test]
fn operations_arrive_as_they_were_sent() {
    let reservation = std::sync::Arc::new("eng,static>eng/db,rack=a".parse::<Reservation>().unwrap());
    let resources: Resources = "cpus:2;ports:[1-5]".parse().unwrap();
    let id: VolumeId = "data".parse().unwrap();
    for operation in [
        Operation::Reserve { resources: resources.clone(), reservation: reservation.clone() },
        Operation::Unreserve { resources, reservation: reservation.clone() },
        Operation::CreateVolume { id: id.clone(), size: Amount(1 << 30), reservation },
        Operation::DestroyVolume { id, role: "eng/db".parse().unwrap() },
    ] {
        let bytes = v1::Operation::from(&operation).encode_to_vec();
        assert_eq!(Operation::try_from(v1::Operation::decode(bytes.as_slice()).unwrap()), Ok(operation));
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_place() {
    let one = |text: &str| portions::to_wire(&text.parse().unwrap()).remove(0);
    let layer = |role: &str, fixed| v1::ReservationLayer { role: role.to_owned(), fixed, ..Default::default() };
    let volume = |portion: v1::Portion| v1::Portion { volume_id: "data".to_owned(), ..portion };
    let reserved = |layers: Vec<_>| v1::Portion { reservation: layers, ..one("disk:1GiB") };
    for (wire, field) in [
        (vec![one("cpus:1"), one("cpus:2")], "[1]"),
        (vec![volume(one("disk:1GiB"))], "[0].volume_id"),
        (vec![volume(one("cpus(eng):1"))], "[0].resources"),
        (vec![v1::Portion { revocable: true, ..one("cpus(eng):1") }], "[0].revocable"),
        (vec![reserved(vec![layer("eng", false), layer("ops", false)])], "[0].reservation[1]"),
        (vec![reserved(vec![layer("eng", false), layer("eng/a", true)])], "[0].reservation[1].fixed"),
        (vec![reserved(vec![layer("e(g", false)])], "[0].reservation[0]"),
        (vec![reserved(vec![layer("a", false); 9])], "[0].reservation"),
        (vec![one("ports:[1-5]"), one("ports(eng):[5-6]")], "[1]"),
    ] {
        assert_eq!(portions::from_wire(wire).unwrap_err().field, field);
    }
}
