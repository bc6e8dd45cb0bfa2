//! `/openapi.json`, written from the table of routes and shapes, so that it cannot differ from them.

use serde_json::{Map, Value, json};

use super::route::{Answer, Method, Route, Who};
use super::routes;
use super::shape::{Field, Kind, Need, Shape};

/// OpenAPI 3.1 of the whole JSON interface.
pub fn document() -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert("Error".into(), error_schema());
    for route in routes() {
        let entry = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        let method = route.method.as_str().to_lowercase();
        if let Value::Object(operations) = entry {
            operations.insert(method, operation(route, &mut schemas));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tallygate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Management under /api with the admin token; self-service with a caller's own key.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "adminToken": {"type": "http", "scheme": "bearer", "description": "The admin token"},
                "callerKey": {"type": "http", "scheme": "bearer", "description": "A caller's key"},
            },
        },
    })
}

fn operation(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut parameters: Vec<_> =
        path_params(route.path).map(|name| parameter(name, "path", "", true)).collect();
    parameters.extend(route.query.iter().map(|param| parameter(param.name, "query", param.about, false)));
    if route.method == Method::Patch {
        parameters.push(parameter(
            "If-Match",
            "header",
            "The version that was seen, as ETag showed it",
            false,
        ));
    }
    if route.takes_names() {
        parameters.push(parameter(
            "Idempotency-Key",
            "header",
            "A name of this request, 1 to 255 bytes: sent again under it, it is answered again and not done again",
            false,
        ));
    }
    let answer = match route.answer {
        Answer::One(shape) | Answer::File(shape) => reference(shape, schemas, false),
        Answer::Page(shape) => json!({
            "type": "object",
            "required": ["data", "next_cursor"],
            "properties": {
                "data": {"type": "array", "items": reference(shape, schemas, false)},
                "next_cursor": {"type": ["string", "null"]},
            },
        }),
    };
    let mut content = json!({"application/json": {"schema": answer}});
    if let (Answer::File(_), Value::Object(content)) = (&route.answer, &mut content) {
        content.insert("text/csv".into(), json!({"schema": {"type": "string"}}));
    }
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "tags": [tag(route)],
        "parameters": parameters,
        "responses": {
            "2XX": {"description": "Done", "content": content},
            "default": {
                "description": "A refusal of the catalogue",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
        "security": security(route.who),
    });
    if let (Some(shape), Value::Object(operation)) = (route.body, &mut operation) {
        let schema = reference(shape, schemas, route.partial());
        operation.insert(
            "requestBody".into(),
            json!({"required": true, "content": {"application/json": {"schema": schema}}}),
        );
    }
    operation
}

fn tag(route: &Route) -> &'static str {
    match route.who {
        Who::Role(_) => route.path.split('/').nth(2).unwrap_or("api"),
        Who::Key | Who::KeyOrStranger => "self-service",
    }
}

fn security(who: Who) -> Value {
    match who {
        Who::KeyOrStranger => json!([{"callerKey": []}, {}]),
        Who::Key => json!([{"callerKey": []}]),
        Who::Role(_) => json!([{"adminToken": []}]),
    }
}

fn path_params(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str, place: &str, about: &str, required: bool) -> Value {
    json!({"name": name, "in": place, "description": about, "required": required, "schema": {"type": "string"}})
}

/// A reference to a shape's schema, which is described on the way. A change has a schema of its own, in which
/// nothing is required.
fn reference(shape: &'static Shape, schemas: &mut Map<String, Value>, partial: bool) -> Value {
    let name = schema_name(shape, partial);
    if !schemas.contains_key(&name) {
        schemas.insert(name.clone(), Value::Null);
        let described = describe(shape, schemas, partial);
        schemas.insert(name.clone(), described);
    }
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schema_name(shape: &Shape, partial: bool) -> String {
    if partial { format!("{}Change", shape.name) } else { shape.name.to_owned() }
}

fn describe(shape: &'static Shape, schemas: &mut Map<String, Value>, partial: bool) -> Value {
    if shape.fields.is_empty() {
        return json!({"type": "object"});
    }
    let mut properties = Map::new();
    for field in shape.fields {
        properties.insert(field.name.into(), property(field, schemas));
    }
    let required: Vec<_> = shape
        .fields
        .iter()
        .filter(|field| !partial && matches!(field.need, Need::Required | Need::Nullable))
        .map(|field| field.name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn property(field: &'static Field, schemas: &mut Map<String, Value>) -> Value {
    let nullable = matches!(field.need, Need::Nullable | Need::OptionalNullable);
    let kind = schema(&field.kind, schemas);
    let mut property = match (nullable, kind) {
        (true, kind) if !kind.as_object().is_some_and(Map::is_empty) => {
            json!({"anyOf": [kind, {"type": "null"}]})
        }
        (_, kind) => kind,
    };
    if let Value::Object(property) = &mut property {
        property.insert("description".into(), field.about.into());
    }
    property
}

fn schema(kind: &'static Kind, schemas: &mut Map<String, Value>) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Secret => json!({"type": "string", "format": "password"}),
        Kind::Money => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9}0*)?$"}),
        Kind::Multiplier => json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,6}0*)?$"}),
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::OneOf(names) => json!({"type": "string", "enum": names}),
        Kind::List(kind) => json!({"type": "array", "items": schema(kind, schemas)}),
        Kind::Map(kind) => json!({"type": "object", "additionalProperties": schema(kind, schemas)}),
        Kind::Object(shape) => reference(shape, schemas, false),
        Kind::Any => json!({}),
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "OpenAI's error object, extended, with the members of RFC 9457",
        "required": ["error", "type", "title", "status", "detail", "instance"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code", "layer", "fault", "retryable", "charged", "limit",
                             "hint", "request_id", "doc_url", "why_url"],
            },
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": ["string", "null"]},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::shape::field;

    use super::*;

    #[test]
    fn every_route_is_described_once_under_a_name_of_its_own() {
        let document = document();
        let names: Vec<_> = routes().map(|route| route.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for route in routes() {
            let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
            assert_eq!(operation["operationId"], route.name);
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = document();
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at..].split('"').next().unwrap().rsplit('/').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    /// Names of schemas → what is said under them. A name that stands for two shapes has two.
    type Said = BTreeMap<String, BTreeSet<String>>;

    fn gather(shape: &'static Shape, partial: bool, said: &mut Said) {
        let schema = describe(shape, &mut Map::new(), partial).to_string();
        if said.entry(schema_name(shape, partial)).or_default().insert(schema) {
            let inner = shape.fields.iter().filter_map(|field| shape_in(&field.kind));
            inner.for_each(|shape| gather(shape, false, said));
        }
    }

    fn shape_in(kind: &'static Kind) -> Option<&'static Shape> {
        match kind {
            Kind::Object(shape) => Some(shape),
            Kind::List(kind) | Kind::Map(kind) => shape_in(kind),
            _ => None,
        }
    }

    fn ambiguous(said: &Said) -> Vec<&str> {
        said.iter().filter(|(_, schemas)| schemas.len() > 1).map(|(name, _)| &**name).collect()
    }

    /// The schema of a name is described once: a second shape of that name would be shown as the first.
    #[test]
    fn k3_no_two_shapes_have_one_name() {
        let mut said = Said::from([("Error".to_owned(), BTreeSet::from([error_schema().to_string()]))]);
        for route in routes() {
            let (Answer::One(answer) | Answer::Page(answer) | Answer::File(answer)) = route.answer;
            gather(answer, false, &mut said);
            route.body.iter().for_each(|body| gather(body, route.partial(), &mut said));
        }
        assert_eq!(ambiguous(&said), [] as [&str; 0]);
        let schemas = &document()["components"]["schemas"];
        assert_eq!(said.len(), schemas.as_object().unwrap().len());
    }

    #[test]
    fn a_second_shape_of_a_name_is_found_wherever_it_stands() {
        static ONE: Shape = Shape { name: "Notice", fields: &[field!("id", Kind::Text, Required, "Its id")] };
        static OTHER: Shape =
            Shape { name: "Notice", fields: &[field!("code", Kind::Text, Required, "Its code")] };
        static OUTER: Shape = Shape {
            name: "Outer",
            fields: &[field!("notices", Kind::List(&Kind::Object(&OTHER)), Required, "All")],
        };
        let mut said = Said::new();
        gather(&ONE, false, &mut said);
        assert!(ambiguous(&said).is_empty());
        gather(&OUTER, false, &mut said);
        assert_eq!(ambiguous(&said), ["Notice"]);
    }
}
