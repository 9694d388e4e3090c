//! What a container prints, is given and returns.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::{About, Failure, Outcome, number, number_or};

/// Bytes of a line that [`flood`] prints, with its newline.
const FLOOD_LINE: usize = 64;

/// `hello`: the least a guest can do; measures a start.
pub fn hello(_: &[String]) -> Outcome {
    println!("hello");
    Ok(ExitCode::SUCCESS)
}

/// `exit CODE`: ends with this code, 0 to 255. Through WASI itself: for the standard library every code
/// but 0 is 1, because that is all that `wasi:cli/exit` knew before 0.2.12.
pub fn exit(args: &[String]) -> Outcome {
    wasip2::cli::exit::exit_with_code(number(args, 0, "CODE")?);
    Err(Failure("the host came back from exit".into()))
}

/// `print LINES`: numbered lines on stdout.
pub fn print(args: &[String]) -> Outcome {
    for index in 1..=number::<u64>(args, 0, "LINES")? {
        println!("line {index}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `print-partial [TEXT]`: text without a newline at its end.
pub fn print_partial(args: &[String]) -> Outcome {
    print!("{}", args.first().map_or("no newline after this", String::as_str));
    io::stdout().flush().about("stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// `print-both [LINES]`: lines on stdout and on stderr, in turns.
pub fn print_both(args: &[String]) -> Outcome {
    for index in 1..=number_or::<u64>(args, 0, "LINES", 1)? {
        println!("stdout {index}");
        eprintln!("stderr {index}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `flood BYTES`: exactly this many bytes in numbered lines of 64, as fast as stdout takes them.
pub fn flood(args: &[String]) -> Outcome {
    let total = number::<usize>(args, 0, "BYTES")?;
    let mut out = io::BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    for index in 0..total.div_ceil(FLOOD_LINE) {
        let line = format!("{index:0>width$}\n", width = FLOOD_LINE - 1);
        let left = total - index * FLOOD_LINE;
        out.write_all(&line.as_bytes()[..left.min(FLOOD_LINE)]).about("stdout")?;
    }
    out.flush().about("stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// `env [NAME]`: the environment as `NAME=VALUE` lines in order, or one value.
pub fn env(args: &[String]) -> Outcome {
    let Some(name) = args.first() else {
        std::env::vars().for_each(|(name, value)| println!("{name}={value}"));
        return Ok(ExitCode::SUCCESS);
    };
    let value = std::env::var(name).map_err(|error| Failure(format!("{name}: {error}")))?;
    println!("{value}");
    Ok(ExitCode::SUCCESS)
}

/// `args [WORD..]`: the whole argument vector, one per line, from `argv[0]`.
pub fn args(_: &[String]) -> Outcome {
    std::env::args().for_each(|arg| println!("{arg}"));
    Ok(ExitCode::SUCCESS)
}

/// `cwd`: the working directory.
pub fn cwd(_: &[String]) -> Outcome {
    println!("{}", std::env::current_dir().about("working directory")?.display());
    Ok(ExitCode::SUCCESS)
}

/// `stdin`: reads to the end and says how many bytes came.
pub fn stdin(_: &[String]) -> Outcome {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).about("stdin")?;
    println!("end of stdin after {} bytes", bytes.len());
    Ok(ExitCode::SUCCESS)
}

/// `cat`: standard input on standard output, as it comes.
pub fn cat(_: &[String]) -> Outcome {
    let (mut from, mut to) = (io::stdin().lock(), io::stdout().lock());
    io::copy(&mut from, &mut to).about("stdin to stdout")?;
    to.flush().about("stdout")?;
    Ok(ExitCode::SUCCESS)
}
