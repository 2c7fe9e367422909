//! Events that nobody recorded: those of the lab's jobs, made by their number and their time.
//!
//! Nothing is remembered from one to the next, so whoever knows seed, number and time knows the event, with the
//! same build of khaos: how sines are rounded is not the same everywhere.

use std::f64::consts::TAU;
use std::io::Write;

use crate::recording::Event;

/// Whose events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// Of the job IoT vehicles: where a vehicle is. Each vehicle's events are of one partition.
    IotVehicles,
    /// Of Yahoo's streaming benchmark: an ad was seen, clicked on or led to a purchase.
    Ysb,
}

/// Makes events.
#[derive(Debug)]
pub struct Maker {
    made: Made,
    seed: u64,
    partitions: i32,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Maker {
    /// Events for the partitions of a topic that has so many, at least one.
    pub fn new(made: Made, seed: u64, partitions: i32) -> Self {
        Self { made, seed, partitions, key: Vec::new(), value: Vec::new() }
    }

    /// Event `n`, from 0, which happens at `at_ms`, epoch ms. Events that follow one another are of all
    /// partitions in turn. Its offset is its number.
    pub fn event(&mut self, n: u64, at_ms: i64) -> Event<'_> {
        self.key.clear();
        self.value.clear();
        let turn = match self.made {
            Made::IotVehicles => {
                let vehicle = n % VEHICLES;
                let (lat, lon) = Route::of(self.seed, vehicle).at(at_ms);
                write!(self.key, "B-KH {vehicle:04}").expect("memory takes it");
                write!(
                    self.value,
                    r#"{{"plate":"B-KH {vehicle:04}","lat":{lat:.7},"lon":{lon:.7},"time":{at_ms}}}"#
                )
                .expect("memory takes it");
                vehicle
            }
            Made::Ysb => {
                ad_event(&mut self.value, &mut Numbers::of(self.seed, n), at_ms);
                n
            }
        };
        Event {
            partition: (turn % u64::from(self.partitions.unsigned_abs())) as i32,
            offset: n as i64,
            timestamp_ms: at_ms,
            key: (!self.key.is_empty()).then_some(self.key.as_slice()),
            value: Some(&self.value),
            headers: Vec::new(),
        }
    }
}

/// How many there are. A vehicle that is to be fast has to be seen twice in 5 s: at 400 events/s all are.
const VEHICLES: u64 = 1_000;
/// Where the job looks at them, degrees north and east.
const OBSERVED: (f64, f64) = (52.516_23, 13.385_32);
/// A degree of latitude, m.
const DEGREE_M: f64 = 111_195.08;

/// A circle that a vehicle drives around, some of them inside of what is observed and some in and out.
struct Route {
    /// Where its centre is, and its radius, m from the observation point to the north and to the east.
    north_m: f64,
    east_m: f64,
    radius_m: f64,
    /// Radians at second 0.
    begins: f64,
    /// Radians/s; less than 0 clockwise.
    turns: f64,
}

impl Route {
    fn of(seed: u64, vehicle: u64) -> Self {
        let mut numbers = Numbers::of(seed, vehicle);
        let (away_m, direction) = (1_000.0 * numbers.share(), TAU * numbers.share());
        let radius_m = 300.0 + 700.0 * numbers.share();
        // 30 to 110 km/h: half of them are at 70 or more.
        let speed_m_s = (30.0 + 80.0 * numbers.share()) / 3.6;
        let clockwise = numbers.share() < 0.5;
        Self {
            north_m: away_m * direction.cos(),
            east_m: away_m * direction.sin(),
            radius_m,
            begins: TAU * numbers.share(),
            turns: speed_m_s / radius_m * if clockwise { -1.0 } else { 1.0 },
        }
    }

    /// Degrees north and east at `at_ms`, epoch ms.
    fn at(&self, at_ms: i64) -> (f64, f64) {
        let angle = self.begins + self.turns * (at_ms as f64 / 1_000.0);
        let north_m = self.north_m + self.radius_m * angle.sin();
        let east_m = self.east_m + self.radius_m * angle.cos();
        let (lat, lon) = OBSERVED;
        (lat + north_m / DEGREE_M, lon + east_m / (DEGREE_M * lat.to_radians().cos()))
    }
}

/// Of 100 campaigns with 10 ads each.
const ADS: u64 = 1_000;
const AD_TYPES: [&str; 5] = ["banner", "modal", "sponsored-search", "mail", "mobile"];
const EVENT_TYPES: [&str; 3] = ["view", "click", "purchase"];

fn ad_event(value: &mut Vec<u8>, numbers: &mut Numbers, at_ms: i64) {
    let (user, page, address) = (numbers.next(), numbers.next(), numbers.next().to_be_bytes());
    let ad = numbers.next() % ADS;
    let ad_type = AD_TYPES[(numbers.next() % AD_TYPES.len() as u64) as usize];
    let event_type = EVENT_TYPES[(numbers.next() % EVENT_TYPES.len() as u64) as usize];
    let [a, b, c, ..] = address;
    write!(
        value,
        r#"{{"user_id":"{user:016x}","page_id":"{page:016x}","ad_id":"ad-{ad:04}","ad_type":"{ad_type}","event_type":"{event_type}","event_time":{at_ms},"ip_address":"10.{a}.{b}.{c}"}}"#
    )
    .expect("memory takes it");
}

/// Numbers without an order (SplitMix64), the same on every machine.
struct Numbers(u64);

impl Numbers {
    /// Those of the `n`th of something.
    fn of(seed: u64, n: u64) -> Self {
        Self(mixed(mixed(seed) ^ n))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    const AT_MS: i64 = 1_764_054_000_123;

    fn made(made: Made, seed: u64, n: u64, at_ms: i64) -> (i32, Option<Vec<u8>>, String) {
        let mut maker = Maker::new(made, seed, 4);
        let event = maker.event(n, at_ms);
        assert_eq!((event.offset, event.timestamp_ms), (n as i64, at_ms));
        let value = String::from_utf8(event.value.unwrap().to_vec()).unwrap();
        (event.partition, event.key.map(<[u8]>::to_vec), value)
    }

    fn json(made: Made, n: u64, at_ms: i64) -> Value {
        let (_, _, value) = self::made(made, 7, n, at_ms);
        serde_json::from_str(&value).unwrap()
    }

    #[test]
    fn the_same_number_is_the_same_event_whatever_was_made_before() {
        for kind in [Made::IotVehicles, Made::Ysb] {
            let mut maker = Maker::new(kind, 7, 4);
            for n in (0..3_000).rev() {
                let event = maker.event(n, AT_MS);
                let (partition, key, value) = made(kind, 7, n, AT_MS);
                assert_eq!((event.partition, event.key), (partition, key.as_deref()));
                assert_eq!(event.value, Some(value.as_bytes()));
            }
            assert_ne!(made(kind, 7, 5, AT_MS), made(kind, 8, 5, AT_MS));
        }
    }

    #[test]
    fn every_partition_has_its_turn_and_a_vehicle_stays_in_one() {
        for kind in [Made::IotVehicles, Made::Ysb] {
            let partitions = (0..8).map(|n| made(kind, 7, n, AT_MS).0).collect::<Vec<_>>();
            assert_eq!(partitions, [0, 1, 2, 3, 0, 1, 2, 3]);
        }
        // Three partitions do not divide a thousand vehicles.
        let mut maker = Maker::new(Made::IotVehicles, 7, 3);
        let mut homes = BTreeMap::new();
        for n in 0..5_000 {
            let event = maker.event(n, AT_MS);
            let (partition, plate) = (event.partition, event.key.unwrap().to_vec());
            assert_eq!(*homes.entry(plate).or_insert(partition), partition, "event {n}");
        }
        assert_eq!(homes.len(), 1_000);
    }

    /// Metres between two positions that are near each other.
    fn apart_m(a: &Value, b: &Value) -> f64 {
        let (lat, lon) =
            (|v: &Value| v["lat"].as_f64().unwrap(), |v: &Value| v["lon"].as_f64().unwrap());
        let east = (lon(b) - lon(a)) * OBSERVED.0.to_radians().cos();
        DEGREE_M * (lat(b) - lat(a)).hypot(east)
    }

    #[test]
    fn vehicles_drive_at_speeds_of_their_own_in_and_out_of_what_is_observed() {
        let observed = serde_json::json!({ "lat": OBSERVED.0, "lon": OBSERVED.1 });
        let (mut fast, mut inside, mut crossing) = (0, 0, 0);
        for vehicle in 0..VEHICLES {
            let at = |ms| json(Made::IotVehicles, vehicle, AT_MS + ms);
            let kmh = 3.6 * apart_m(&at(0), &at(1_000));
            assert!((29.0..=110.5).contains(&kmh), "vehicle {vehicle} at {kmh} km/h");
            fast += u32::from(kmh >= 70.0);
            let is_inside = |ms| apart_m(&observed, &at(ms)) <= 1_000.0;
            inside += u32::from(is_inside(0));
            crossing += u32::from((1..30).any(|n| is_inside(0) != is_inside(10_000 * n)));
        }
        assert!((400..600).contains(&fast) && (500..900).contains(&inside) && crossing > 200);
    }

    #[test]
    fn a_third_of_ad_events_are_views_and_all_ads_have_some() {
        let (mut views, mut ads) = (0, BTreeSet::new());
        for n in 0..30_000 {
            let event = json(Made::Ysb, n, AT_MS);
            assert_eq!(event["event_time"], AT_MS);
            assert!(EVENT_TYPES.contains(&event["event_type"].as_str().unwrap()));
            views += u32::from(event["event_type"] == "view");
            ads.insert(event["ad_id"].as_str().unwrap().to_owned());
        }
        assert!((9_500..10_500).contains(&views), "{views}");
        assert_eq!(ads.len(), 1_000);
        assert!(ads.contains("ad-0000") && ads.contains("ad-0999"), "{ads:?}");
    }
}
