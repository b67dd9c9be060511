//! A flag for every setting, made of the table in [`crate::config`].

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::SETTINGS;

/// The settings given as flags, by key.
pub struct SettingFlags(pub BTreeMap<String, String>);

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = SETTINGS.iter().filter_map(|s| {
            let value = matches.get_one::<String>(s.key)?;
            Some((s.key.to_owned(), value.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, s| {
            let default = if s.default.is_empty() { String::new() } else { format!(" [{}]", s.default) };
            let flag = Arg::new(s.key)
                .long(s.key.replace('_', "-"))
                .value_name(s.key.rsplit('_').next().unwrap_or("value").to_uppercase())
                .help(format!("{}{default}", s.help))
                .help_heading("Settings (also in the TOML file, and as PORTCULLIS_… in the environment)");
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
