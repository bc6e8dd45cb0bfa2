//! What OpenAI's two formats say alike, though at other places: functions, the calls of them, which one is to be called,
//! and the schema of an answer.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::conversation::{Shape, Tool, ToolChoice};
use super::super::object::{ConvertFault, Object, Path};
use super::super::text::Text;

/// A function, of the object that describes it.
pub fn function<'a>(object: &mut Object<'a, '_>) -> Result<Tool<'a>, ConvertFault> {
    Ok(Tool {
        name: object.need_text("name")?,
        description: object.text("description")?,
        parameters: object.take("parameters").map(|schema| Cow::Borrowed(schema.get())),
        strict: object.flag("strict")?,
        cached: false,
    })
}

/// The arguments of a call: JSON within a text.
pub fn arguments<'a>(object: &mut Object<'a, '_>) -> Result<Cow<'a, str>, ConvertFault> {
    Ok(match object.need_text("arguments")?.unescaped() {
        text if text.trim().is_empty() => Cow::Borrowed("{}"),
        text => Cow::Owned(text.into_owned()),
    })
}

/// Which tool is to be called. `name` reads the name of a function where the format has it.
pub fn tool_choice<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    name: impl FnOnce(&mut Object<'a, '_>) -> Result<Text<'a>, ConvertFault>,
) -> Result<ToolChoice<'a>, ConvertFault> {
    if let Some(text) = Text::of(raw) {
        let known = [("auto", ToolChoice::Auto), ("none", ToolChoice::None), ("required", ToolChoice::Any)];
        let found = known.into_iter().find(|(name, _)| text.is(name)).map(|(_, choice)| choice);
        return found
            .ok_or_else(|| path.fault("`auto`, `none`, `required` or one function", "another choice"));
    }
    let mut object = Object::read(raw, path)?;
    if !object.need_text("type")?.is("function") {
        return Err(path.member("type").fault("`function`", "another type"));
    }
    let name = name(&mut object)?;
    object.done()?;
    Ok(ToolChoice::Named(name))
}

/// The shape that an answer is to have, of the object that describes it.
pub fn schema<'a>(object: &mut Object<'a, '_>) -> Result<Shape<'a>, ConvertFault> {
    object.take("description");
    let name = object.text("name")?;
    let schema = Cow::Borrowed(object.need("schema", "a JSON schema")?.get());
    Ok(Shape::Schema { name, schema, strict: object.flag("strict")? })
}
