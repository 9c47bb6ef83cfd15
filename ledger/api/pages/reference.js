// The reference of the API: Swagger UI on the service's own OpenAPI document.

// Names of parameters that are arrays: `expand` is sent as `expand[]`.
const arrays = new Set();

// Swagger UI fills every field of a form with a sample, and a filter with zeros, which would all be sent: only what
// has an example in the document is filled.
function leaveEmpty(document) {
  for (const methods of Object.values(document.paths)) {
    for (const operation of Object.values(methods)) {
      for (const parameter of operation.parameters ?? []) {
        const variants = [parameter.schema, ...(parameter.schema?.anyOf ?? [])];
        if (variants.some((each) => each?.type === 'array')) arrays.add(parameter.name);
        const hasMembers = variants.some((each) => ['object', 'array'].includes(each?.type));
        if (hasMembers && !parameter.required) parameter.example ??= '';
      }
      const form = operation.requestBody?.content?.['application/x-www-form-urlencoded'];
      if (!form) continue;
      const example = form.example ?? Object.values(form.examples ?? {})[0]?.value ?? {};
      for (const [name, schema] of Object.entries(form.schema.properties ?? {})) {
        const variants = [schema, ...(schema.anyOf ?? [])];
        if (variants.some((each) => each.type === 'array')) arrays.add(name);
        if (name in example) schema.example = example[name];
        else if (!form.schema.required?.includes(name)) {
          const kinds = variants.map((each) => each.type);
          schema.example = kinds.includes('object') ? {} : kinds.includes('array') ? [] : '';
        }
      }
    }
  }
  return document;
}

// Swagger UI writes out every schema that an answer refers to, down to the last: an object in which each id may be
// expanded took ten seconds to open. Shown is the id, and what it expands to by name.
function foldExpandable(document) {
  for (const schema of Object.values(document.components.schemas)) {
    for (const member of Object.values(schema.properties ?? {})) {
      const kinds = member.anyOf ?? [];
      const expanded = kinds.flatMap((each) => each.$ref?.split('/').at(-1) ?? []);
      if (!expanded.length || !kinds.some((each) => each.type === 'string')) continue;
      member.anyOf = kinds.filter((each) => !each.$ref);
      member.description = `${member.description ?? ''} Expands to: ${expanded.join(' or ')}.`.trim();
    }
  }
  return document;
}

// Stripe's form encoding of a value that Swagger UI wrote as JSON: a[b][c]=v, a[0]=v.
function* encode(name, value) {
  if (value !== null && typeof value === 'object') {
    for (const [key, member] of Object.entries(value)) yield* encode(`${name}[${key}]`, member);
  } else {
    yield [name, value ?? ''];
  }
}

function* decode(name, text) {
  let value = text;
  try {
    if (/^[[{]/.test(text)) value = JSON.parse(text);
  } catch {
    // a text that begins with a bracket
  }
  yield* encode(arrays.has(name) && typeof value !== 'object' ? `${name}[]` : name, value);
}

// Empty fields are left out: sent, they would unset what an object has.
function encodePairs(pairs) {
  const sent = new URLSearchParams();
  for (const [name, text] of pairs) {
    if (text === '') continue;
    for (const [full, value] of decode(name, String(text))) sent.append(full, value);
  }
  return sent.toString();
}

SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#reference',
  layout: 'BaseLayout',
  presets: [SwaggerUIBundle.presets.apis],
  deepLinking: true,
  docExpansion: 'none',
  filter: true,
  // Keys stay in the memory of the page, and no other host learns of it.
  persistAuthorization: false,
  validatorUrl: null,
  responseInterceptor(response) {
    if (new URL(response.url).pathname.endsWith('/openapi.json')) {
      response.text = JSON.stringify(foldExpandable(leaveEmpty(JSON.parse(response.text))));
    }
    return response;
  },
  requestInterceptor(request) {
    const isForm = request.headers?.['Content-Type'] === 'application/x-www-form-urlencoded';
    if (isForm && typeof request.body === 'string') request.body = encodePairs(new URLSearchParams(request.body));
    const [path, query] = request.url.split('?');
    if (query) request.url = `${path}?${encodePairs(new URLSearchParams(query))}`;
    return request;
  },
});
