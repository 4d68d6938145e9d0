// Requests to the API. What it refuses becomes an Error with its message and hint.
export async function ask(path, params = {}, options = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value != null))
  const answer = await fetch(query.size ? `${path}?${query}` : path, options)
  const body = await answer.json()
  if (answer.ok) return body
  throw Object.assign(new Error(body.message), { status: answer.status, code: body.code, hint: body.hint })
}

export const symbolPath = name => `/v1/symbols/${name.split('/').map(encodeURIComponent).join('/')}`
