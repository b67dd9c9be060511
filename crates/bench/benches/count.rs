//! Does one part of a token request so many times, for `dev/count`, which counts the instructions:
//! `count PART TIMES`. Without arguments it prints the names of the parts.

#![allow(clippy::print_stdout, reason = "the names are the output")]

mod parts;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [name, times] = arguments.as_slice() else {
        for (name, _) in parts::PARTS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let part = parts::PARTS.into_iter().find(|(known, _)| known == name);
    let (Some((_, part)), Ok(times)) = (part, times.parse::<u32>()) else { return ExitCode::from(2) };
    let input = parts::Input::new();
    for _ in 0..times {
        part(&input);
    }
    ExitCode::SUCCESS
}
