//! The demo's feed: a fleet that drives around a city. No clock, no Kafka: `Fleet::step` says what happened in the last bit of time.
//!
//! Topic `vehicles`: key `N` holds a position as JSON (`id`, `lat`, `lon`, `speed`, `heading`), key `N/speed` the speed in km/h as a bare number.

/// The topic that it is written to.
pub const TOPIC: &str = "vehicles";
/// Vehicles, each with two subjects: a few dozen, so that the page shows movement and a person can still follow one.
pub const VEHICLES: u32 = 24;

/// The middle of the city (Hamburg's town hall) and how far a vehicle strays from it, in degrees of latitude: about 4 km.
const MIDDLE: (f64, f64) = (53.5503, 9.9920);
const RADIUS_DEGREES: f64 = 0.036;
const METRES_PER_DEGREE: f64 = 111_320.0;

#[derive(Clone, Debug)]
struct Vehicle {
    id: u32,
    lat: f64,
    lon: f64,
    /// Degrees from north, clockwise.
    heading: f64,
    /// km/h.
    speed: f64,
    /// What it speeds up or slows down to.
    wanted_speed: f64,
    /// Degrees a second.
    turn: f64,
    /// Seconds until the driver thinks again.
    mood: f64,
}

/// All vehicles.
#[derive(Clone, Debug)]
pub struct Fleet {
    vehicles: Vec<Vehicle>,
    random: fastrand::Rng,
    steps: u64,
}

impl Fleet {
    /// A fleet whose ways depend on the seed alone.
    pub fn new(seed: u64) -> Fleet {
        let mut random = fastrand::Rng::with_seed(seed);
        let vehicles = (1..=VEHICLES)
            .map(|id| {
                let (distance, bearing) = (random.f64() * RADIUS_DEGREES * 0.7, random.f64() * std::f64::consts::TAU);
                Vehicle {
                    id,
                    lat: MIDDLE.0 + distance * bearing.cos(),
                    lon: MIDDLE.1 + distance * bearing.sin() / MIDDLE.0.to_radians().cos(),
                    heading: random.f64() * 360.0,
                    speed: 30.0,
                    wanted_speed: 40.0,
                    turn: 0.0,
                    mood: random.f64() * 4.0,
                }
            })
            .collect();
        Fleet { vehicles, random, steps: 0 }
    }

    /// Moves every vehicle on by that many seconds and gives the records to write, key and value. Positions come at each step, speeds at every second.
    pub fn step(&mut self, seconds: f64) -> Vec<(String, String)> {
        self.steps += 1;
        let mut records = Vec::with_capacity(self.vehicles.len() * 2);
        for vehicle in &mut self.vehicles {
            vehicle.drive(seconds, &mut self.random);
            records.push((
                vehicle.id.to_string(),
                format!(
                    r#"{{"id":{},"lat":{:.6},"lon":{:.6},"speed":{:.1},"heading":{:.0}}}"#,
                    vehicle.id, vehicle.lat, vehicle.lon, vehicle.speed, vehicle.heading
                ),
            ));
            if self.steps % 2 == u64::from(vehicle.id % 2) {
                records.push((format!("{}/speed", vehicle.id), format!("{:.1}", vehicle.speed)));
            }
        }
        records
    }
}

impl Vehicle {
    fn drive(&mut self, seconds: f64, random: &mut fastrand::Rng) {
        self.mood -= seconds;
        if self.mood <= 0.0 {
            self.mood = 2.0 + random.f64() * 6.0;
            // Now and then a red light.
            self.wanted_speed = if random.u8(0..6) == 0 { 0.0 } else { 25.0 + random.f64() * 45.0 };
            self.turn = (random.f64() - 0.5) * 24.0;
        }
        let (north, east) = (MIDDLE.0 - self.lat, (MIDDLE.1 - self.lon) * MIDDLE.0.to_radians().cos());
        if north.hypot(east) > RADIUS_DEGREES {
            // Too far out: turn toward the middle.
            let off = (east.atan2(north).to_degrees() - self.heading + 540.0).rem_euclid(360.0) - 180.0;
            self.turn = off.clamp(-30.0, 30.0);
        }
        self.speed += (self.wanted_speed - self.speed) * (seconds * 0.5).min(1.0) + (random.f64() - 0.5) * seconds;
        self.speed = self.speed.clamp(0.0, 90.0);
        self.heading = (self.heading + self.turn * seconds).rem_euclid(360.0);
        let degrees = self.speed / 3.6 * seconds / METRES_PER_DEGREE;
        self.lat += degrees * self.heading.to_radians().cos();
        self.lon += degrees * self.heading.to_radians().sin() / self.lat.to_radians().cos();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_stays_in_town_and_its_records_are_json() {
        let mut fleet = Fleet::new(7);
        let mut subjects = std::collections::HashSet::new();
        for _ in 0..20_000 {
            for (key, value) in fleet.step(0.5) {
                let value: serde_json::Value = serde_json::from_str(&value).expect("a value is JSON");
                if !key.ends_with("/speed") {
                    let at = |name: &str| value[name].as_f64().expect("a position has numbers");
                    assert!(
                        (at("lat") - MIDDLE.0).abs() < 2.0 * RADIUS_DEGREES && (at("lon") - MIDDLE.1).abs() < 4.0 * RADIUS_DEGREES,
                        "{value}"
                    );
                    assert!((0.0..=90.0).contains(&at("speed")) && (0.0..=360.0).contains(&at("heading")), "{value}");
                } else {
                    assert!(value.is_number());
                }
                subjects.insert(key);
            }
        }
        assert_eq!(subjects.len(), 2 * VEHICLES as usize);
    }
}
