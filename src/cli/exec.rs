//! `nscompose exec`.

use std::{
    io::{self, IsTerminal},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    change::one_container,
    files::{Words, is_file, project_name},
    lent::Lent,
    not_yet,
    settings::Settings,
    stack::{gone, open_if_up, talk},
    terminal,
};
use crate::{
    diagnostics::Failure,
    model::UserSpec,
    supervisor::{Connection, ExecRequest, Reply, Request},
};

/// Run a command in a running service
///
/// Its exit code is the command's. It gets a terminal when standard input and output are one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Standard input is handed on anyway; for those who are used to it
    #[arg(short = 'i', long = "interactive", hide = true)]
    _interactive: bool,
    /// A terminal is given where there is one anyway; likewise
    #[arg(short = 't', long = "tty", hide = true)]
    _tty: bool,
    /// No terminal, whatever the streams are
    #[arg(short = 'T', long = "no-tty")]
    no_tty: bool,
    /// Set a variable, or hand on the caller's
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
    /// Run as this user of the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Run in this folder of the container
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<PathBuf>,
    /// Come back as soon as the command runs; nobody sees what it writes
    #[arg(short, long)]
    detach: bool,
    /// Give it every capability that root of the container can have
    #[arg(long)]
    privileged: bool,
    /// Which container of the service, by its number [default: the first]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    index: Option<u32>,
    /// [FILE] SERVICE COMMAND [ARGUMENT]...
    #[arg(value_name = "SERVICE COMMAND", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

pub(super) fn run(args: &Args, settings: &Settings) -> Result<u8, Failure> {
    let mut words = args.words.clone();
    if let Some(failure) = words.first().and_then(|word| not_yet::flag("exec", word)) {
        return Err(failure);
    }
    let mut files = Vec::new();
    // A file comes first; whatever follows the service is the command's.
    if words.len() > 2 && is_file(&words[0], &settings.directory) {
        files.push(PathBuf::from(words.remove(0)));
    }
    if words.len() < 2 {
        return Err(Failure::usage("`exec` needs a service and a command").hint("nscompose exec SERVICE COMMAND"));
    }
    let service = words.remove(0);
    if words.first().is_some_and(|word| word == "--") && words.len() > 1 {
        words.remove(0);
    }
    let of = Words { files, services: Vec::new() };
    let name = project_name(&of, settings)?;
    let layout = settings.layout.stack(&name);
    let Some(opened) = open_if_up(&layout)? else {
        return Err(Failure::operation(format!("stack `{name}` is not up")).hint("`nscompose up -d` brings it up"));
    };
    let user = args.user.as_deref().map(str::parse::<UserSpec>).transpose();
    let user = user.map_err(|e| Failure::usage(e.to_string()))?;
    let environment = args.environment.iter().filter_map(|variable| match variable.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((variable.clone(), settings.environment.get(variable)?.clone())),
    });
    let mut environment: Vec<(String, String)> = environment.collect();
    let with_terminal = !args.no_tty && !args.detach && io::stdin().is_terminal() && io::stdout().is_terminal();
    if with_terminal {
        let term = settings.environment.get("TERM").map_or("xterm", String::as_str);
        environment.insert(0, ("TERM".to_owned(), term.to_owned()));
    }
    opened.on_runtime(async |mut connection, snapshot| {
        let observed = snapshot.observed;
        let service = one_container((&service, args.index), &of, &observed.containers, settings)?;
        let mut request = ExecRequest {
            service,
            argv: words,
            environment,
            user,
            working_dir: args.workdir.clone(),
            terminal: None,
            privileged: args.privileged,
            detach: args.detach,
        };
        if args.detach {
            return detached(&mut connection, request).await;
        }
        if with_terminal {
            request.terminal = Some(terminal::size());
            return on_terminal(&mut connection, request).await;
        }
        let mut lent = Lent::new().map_err(|e| Failure::host("cannot set up the streams").caused_by(&e))?;
        connection.send(&Request::Exec(request), &lent.streams()).await.map_err(|e| talk(&e))?;
        lent.handed_on();
        let code = until_exit(&mut connection).await;
        lent.finish().await;
        code
    })
}

/// Waits until the command runs, and leaves it alone.
async fn detached(connection: &mut Connection, request: ExecRequest) -> Result<u8, Failure> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null: OwnedFd = null.map_err(|e| Failure::host("cannot open /dev/null").caused_by(&e))?.into();
    connection.send(&Request::Exec(request), &[null.as_fd(); 3]).await.map_err(|e| talk(&e))?;
    loop {
        match connection.next().await.map_err(|e| talk(&e))? {
            Some(Reply::Done) => return Ok(0),
            Some(Reply::Failed(failure)) => return Err(failure),
            Some(_) => {}
            None => return Err(gone()),
        }
    }
}

/// Passes signals on until the command has ended.
async fn until_exit(connection: &mut Connection) -> Result<u8, Failure> {
    let catch = |kind| signal(kind).map_err(|e| Failure::host("cannot catch signals").caused_by(&e));
    let (mut interrupt, mut terminate) = (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
    let (mut hang_up, mut quit) = (catch(SignalKind::hangup())?, catch(SignalKind::quit())?);
    let mut insisted = 0;
    loop {
        let number = tokio::select! {
            reply = connection.next() => match reply.map_err(|e| talk(&e))? {
                Some(Reply::Exited(code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
                Some(Reply::Failed(failure)) => return Err(failure),
                Some(_) => continue,
                None => return Err(gone()),
            },
            _ = interrupt.recv() => libc::SIGINT,
            _ = terminate.recv() => libc::SIGTERM,
            _ = hang_up.recv() => libc::SIGHUP,
            _ = quit.recv() => libc::SIGQUIT,
        };
        // Whoever asks for it twice does not want to wait for a program, or a supervisor, that does not answer: when we hang
        // up the program is killed. Ctrl-C may have a meaning of its own to it, any number of times.
        if matches!(number, libc::SIGTERM | libc::SIGHUP) {
            insisted += 1;
            if insisted > 1 {
                return Ok(128 + number as u8);
            }
        }
        connection.send(&Request::Signal(number), &[]).await.map_err(|e| talk(&e))?;
    }
}

/// Runs the command on a terminal of its own in the container, relayed to ours.
async fn on_terminal(connection: &mut Connection, request: ExecRequest) -> Result<u8, Failure> {
    let broken = |e: io::Error| Failure::host("cannot set up the terminal").caused_by(&e);
    let null: OwnedFd = std::fs::File::open("/dev/null").map_err(broken)?.into();
    let (ours, theirs) = UnixStream::pair().map_err(broken)?;
    let fds = [null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd()];
    connection.send(&Request::Exec(request), &fds).await.map_err(|e| talk(&e))?;
    drop(theirs);
    let relay = terminal::relay(ours);
    let code = until_exit(connection).await;
    // What the command wrote last has to come out before the prompt does.
    relay.finish().await;
    code
}
