//! Decode Avro bodies to `Value`, the way BOOM does it: apache-avro, the schema parsed once.
//!
//! Arguments: schema (JSON), bodies (each after its length, 8 bytes little-endian), rounds. Prints microseconds of
//! CPU per packet, the best round, and the fields of the first record.

use apache_avro::{reader::datum::GenericDatumReader, types::Value, Schema};
use std::{env, error::Error, fs};

fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or("0").parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let schema = Schema::parse_str(&fs::read_to_string(&arguments[1])?)?;
    let data = fs::read(&arguments[2])?;
    let (mut bodies, mut rest) = (Vec::new(), &data[..]);
    while !rest.is_empty() {
        let (length, tail) = rest.split_at(8);
        let (body, tail) = tail.split_at(u64::from_le_bytes(length.try_into()?) as usize);
        bodies.push(body);
        rest = tail;
    }
    let reader = GenericDatumReader::builder(&schema).build()?;
    let (mut best, mut fields) = (u64::MAX, 0);
    for _ in 0..arguments[3].parse()? {
        let began = cpu_ns()?;
        for mut body in bodies.iter().copied() {
            if let Value::Record(record) = reader.read_value(&mut body)? {
                fields = record.len();
            }
        }
        best = best.min(cpu_ns()? - began);
    }
    let each = best as f64 / 1e3 / bodies.len() as f64;
    println!("{{\"us_per_packet\": {each}, \"packets\": {}, \"fields\": {fields}}}", bodies.len());
    Ok(())
}
