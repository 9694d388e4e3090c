//! Functions that a component exports besides its entry point, called as commands.
//!
//! ```text
//! name ─► Program::export ─► its type: takes words or nothing, returns what can be said ─► Export
//! Export + arguments ─► call ─► Ended ─► standard output, standard error, exit code
//! ```

use wasmtime::Store;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, Val};

use super::{Host, Program, Stdio};

/// Names that a message lists.
const MAX_LISTED: usize = 16;

/// A function that can be called as a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    interface: Option<String>,
    function: String,
    takes_words: bool,
    returns: bool,
}

/// Why a name cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// No function of this name is exported.
    #[error("no such export")]
    Missing,
    /// It has another type.
    #[error(
        "the export {0} cannot be called as a command: it has to be func() or func(list<string>), and return \
         nothing, bool, string, u8, u32, s32, or result with string, u8, u32, s32 or nothing in both places"
    )]
    Type(String),
    /// It takes no arguments.
    #[error("the export {0} takes no arguments")]
    Arguments(String),
}

impl Program {
    /// The function `command[0]`, for all of `command`: `name` of the component itself, or `interface/name`
    /// of an interface that it exports, with or without the interface's version.
    ///
    /// # Errors
    /// There is none, or it cannot be called so.
    pub fn export(&self, command: &[String]) -> Result<Export, ExportError> {
        let name = command.first().map_or("", String::as_str);
        let (interface, function, found) = self.find(name).ok_or(ExportError::Missing)?;
        let wrong_type = || ExportError::Type(name.to_owned());
        let takes_words = takes_words(&found).ok_or_else(wrong_type)?;
        let returns = returns(&found).ok_or_else(wrong_type)?;
        if !takes_words && command.len() > 1 {
            return Err(ExportError::Arguments(name.to_owned()));
        }
        Ok(Export { interface, function: function.to_owned(), takes_words, returns })
    }

    /// Some of what [`Program::export`] can find.
    pub fn exports(&self) -> Vec<String> {
        let component = self.instance_pre().component();
        let callable =
            |function: &ComponentFunc| takes_words(function).is_some() && returns(function).is_some();
        let mut names = Vec::new();
        for (name, item) in items(self, component) {
            match item {
                ComponentItem::ComponentFunc(function) if callable(&function) => names.push(name),
                ComponentItem::ComponentInstance(interface) if !name.starts_with("wasi:") => {
                    let engine = self.engine.wasmtime();
                    names.extend(interface.exports(engine).filter_map(|(function, item)| match &item.ty {
                        ComponentItem::ComponentFunc(found) if callable(found) => {
                            Some(format!("{name}/{function}"))
                        }
                        _ => None,
                    }));
                }
                _ => {}
            }
            if names.len() >= MAX_LISTED {
                break;
            }
        }
        names.truncate(MAX_LISTED);
        names
    }

    fn find<'n>(&self, name: &'n str) -> Option<(Option<String>, &'n str, ComponentFunc)> {
        let component = self.instance_pre().component();
        let split = name.rsplit_once('/');
        for (export, item) in items(self, component) {
            match (item, split) {
                (ComponentItem::ComponentFunc(function), _) if export == name => {
                    return Some((None, name, function));
                }
                (ComponentItem::ComponentInstance(instance), Some((interface, function)))
                    if export == interface || unversioned(&export) == interface =>
                {
                    let mut functions = instance.exports(self.engine.wasmtime());
                    let found =
                        functions.find(|(name, _)| *name == function).map(|(_, item)| item.ty.clone());
                    if let Some(ComponentItem::ComponentFunc(found)) = found {
                        return Some((Some(export), function, found));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

fn items(program: &Program, component: &Component) -> Vec<(String, ComponentItem)> {
    let engine = program.engine.wasmtime();
    let ty = component.component_type();
    ty.exports(engine).map(|(name, item)| (name.to_owned(), item.ty.clone())).collect()
}

fn unversioned(interface: &str) -> &str {
    interface.split_once('@').map_or(interface, |(name, _)| name)
}

/// Whether it takes words, or nothing.
fn takes_words(function: &ComponentFunc) -> Option<bool> {
    let mut parameters = function.params();
    match (parameters.next(), parameters.next()) {
        (None, _) => Some(false),
        (Some((_, Type::List(list))), None) if matches!(list.ty(), Type::String) => Some(true),
        _ => None,
    }
}

/// Whether it returns something.
fn returns(function: &ComponentFunc) -> Option<bool> {
    let said = |ty: Option<Type>| ty.is_none_or(|ty| is_said(&ty));
    let mut results = function.results();
    match (results.next(), results.next()) {
        (None, _) => Some(false),
        (Some(Type::Result(result)), None) if said(result.ok()) && said(result.err()) => Some(true),
        (Some(Type::Bool), None) => Some(true),
        (Some(ty), None) if is_said(&ty) => Some(true),
        _ => None,
    }
}

fn is_said(ty: &Type) -> bool {
    matches!(ty, Type::String | Type::U8 | Type::U32 | Type::S32)
}

/// How a call ended.
pub(super) struct Ended(Option<Val>);

impl Ended {
    /// Says what was returned; its exit code.
    pub(super) fn say(self, stdio: &Stdio) -> i32 {
        let line = |text: &str| format!("{}\n", text.strip_suffix('\n').unwrap_or(text));
        let code = |value: &Val| match value {
            Val::U8(code) => Some(i32::from(*code)),
            Val::U32(code) => Some(*code as i32),
            Val::S32(code) => Some(*code),
            Val::Bool(success) => Some(i32::from(!success)),
            _ => None,
        };
        match self.0 {
            Some(Val::String(text)) => {
                stdio.print(&line(&text));
                0
            }
            Some(Val::Result(Ok(Some(value)))) => Self(Some(*value)).say(stdio),
            Some(Val::Result(Err(Some(value)))) => match *value {
                Val::String(text) => {
                    stdio.error(&line(&text));
                    1
                }
                // An error is never a success.
                value => code(&value).filter(|code| code & 0xff != 0).unwrap_or(1),
            },
            Some(Val::Result(Err(None))) => 1,
            Some(value) => code(&value).unwrap_or(0),
            None => 0,
        }
    }
}

/// Makes an instance and calls the function in it.
///
/// # Errors
/// A trap, or that there is no place for the instance.
pub(super) async fn call(
    program: &Program,
    export: &Export,
    store: &mut Store<Host>,
    arguments: &[String],
) -> wasmtime::Result<Ended> {
    let instance = program.instance_pre().instantiate_async(&mut *store).await?;
    let missing = || wasmtime::format_err!("the export {} is gone", export.function);
    let interface = match &export.interface {
        None => None,
        Some(name) => Some(instance.get_export_index(&mut *store, None, name).ok_or_else(missing)?),
    };
    let index = instance.get_export_index(&mut *store, interface.as_ref(), &export.function);
    let function = index.and_then(|index| instance.get_func(&mut *store, index)).ok_or_else(missing)?;
    let words = arguments.iter().cloned().map(Val::String).collect();
    let parameters = if export.takes_words { vec![Val::List(words)] } else { Vec::new() };
    let mut results = vec![Val::Bool(false); usize::from(export.returns)];
    function.call_async(store, &parameters, &mut results).await?;
    Ok(Ended(results.pop()))
}
