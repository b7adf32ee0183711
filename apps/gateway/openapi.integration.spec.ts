import { testType, webhookTypes } from '@app/webhooks';
import { ApiContract, pathsOf, type OpenApi, type Operation } from '../../test/support/api-contract';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let document: OpenApi;
let contract: ApiContract;
let operations: [name: string, operation: Operation][];

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  document = JSON.parse((await gateway.call('GET', '/api/v1/openapi.json')).text) as OpenApi;
  contract = new ApiContract(document);
  operations = Object.entries(pathsOf(document)).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Operation] => [`${method} ${path}`, operation]),
  );
});

afterAll(async () => {
  await gateway.close();
  await database.drop();
});

/** Fails when an example is not what its schema says. */
const expectValid = (where: string, schema: object, example: unknown) =>
  expect([where, contract.faults(schema, example)]).toEqual([where, undefined]);

/** The bodies of requests, with the schemas that they are made by. */
const bodies = () =>
  operations.flatMap(([name, { requestBody }]) => {
    const reference = requestBody?.content['application/json']?.schema.$ref;
    if (!reference) return [];
    return [{ name, schema: document.components.schemas[reference.split('/').at(-1)!] as BodySchema }];
  });

interface Message {
  readonly parameters: readonly { readonly name: string }[];
  readonly requestBody: {
    readonly content: {
      readonly 'application/cloudevents+json': { readonly schema: object; readonly example: unknown };
    };
  };
}

interface BodySchema {
  readonly additionalProperties?: boolean;
  readonly required?: readonly string[];
  readonly properties: Record<string, { readonly example?: unknown }>;
}

describe('R16: the OpenAPI document', () => {
  it('has examples of answers that are valid', () => {
    let examples = 0;
    for (const [name, { responses }] of operations)
      for (const [status, { content = {} }] of Object.entries(responses))
        for (const [mediaType, { schema, example, examples: named = {} }] of Object.entries(content))
          for (const value of [
            ...(example === undefined ? [] : [example]),
            ...Object.values(named).map((each) => each.value),
          ]) {
            expectValid(`${name} ${status} ${mediaType}`, schema, value);
            examples++;
          }
    expect(examples).toBeGreaterThan(100);
  });

  it('says of a field that is an object with fields of its own whether it can be absent, too', () => {
    for (const [name, { properties, required = [] }] of Object.entries(
      document.components.schemas as Record<string, BodySchema>,
    ))
      for (const [field, property] of Object.entries(properties))
        if ('required' in property) expect([name, required]).toEqual([name, expect.arrayContaining([field])]);
  });

  it('has examples of fields and parameters that are valid', () => {
    for (const [name, schema] of Object.entries(document.components.schemas))
      for (const [field, property] of Object.entries((schema as BodySchema).properties))
        if ('example' in property) expectValid(`${name}.${field}`, property, property.example);
    for (const [name, { parameters = [] }] of operations)
      for (const { name: parameter, schema, example } of parameters)
        if (example !== undefined) expectValid(`${name} ${parameter}`, schema, example);
  });

  it('has every type of message, with headers, and an example of its body that is valid', () => {
    const { webhooks } = document as unknown as { webhooks: Record<string, { post: Message }> };
    expect(Object.keys(webhooks)).toEqual([...webhookTypes, testType]);
    for (const [type, { post }] of Object.entries(webhooks)) {
      const { schema, example } = post.requestBody.content['application/cloudevents+json'];
      expectValid(type, schema, example);
      expect(contract.faults(schema, { ...(example as object), type: 'other' })).toBeDefined();
      expect(example).toMatchObject({ specversion: '1.0', type });
      expect(post.parameters.map(({ name }) => name)).toEqual([
        'webhook-id',
        'webhook-timestamp',
        'webhook-signature',
        'webhook-replay',
      ]);
    }
  });

  it('says of each body that it is closed, as it is', async () => {
    const { key } = await gateway.key();
    expect(bodies().length).toBeGreaterThanOrEqual(6);
    for (const { name, schema } of bodies()) {
      expect([name, schema.additionalProperties]).toEqual([name, false]);
      const [method, path] = name.split(' ') as [string, string];
      const body = { unheard_of: 1, ...exampleOf(schema) };
      const answer = await gateway.call(method.toUpperCase(), path.replace('{id}', 'x'), { key, body });
      expect([answer.status, answer.body.error.param]).toEqual([400, 'unheard_of']);
    }
  });

  it('says of each field of a body that may not be null that it may not, as it is', async () => {
    const { key, id } = await gateway.key();
    let fields = 0;
    for (const { name, schema } of bodies())
      for (const [field, property] of Object.entries(schema.properties)) {
        if (contract.faults(property, null) === undefined) continue;
        const [method, path] = name.split(' ') as [string, string];
        const body = { ...exampleOf(schema), [field]: null };
        const answer = await gateway.call(method.toUpperCase(), path.replace('{id}', id), { key, body });
        expect([name, answer.status, answer.body.error.param]).toEqual([name, 400, field]);
        fields++;
      }
    expect(fields).toBeGreaterThanOrEqual(9);
  });

  it('has examples of bodies that are taken', async () => {
    const { key, team } = await gateway.key();
    const { id: other } = await gateway.accounts.createKey(team, { role: 'root:readonly' });
    const domain = (await gateway.call('POST', '/api/v1/domains', { key, body: { domain: 'mail.acme.com' } })).body
      .data;
    await gateway.call('POST', `/api/v1/domains/${domain.id}/verify`, { key });
    const endpoint = { url: 'https://hooks.acme.com' };
    const { id: webhook } = (await gateway.call('POST', '/api/v1/webhooks', { key, body: endpoint })).body.data;
    for (const { name, schema } of bodies()) {
      const [method, path] = name.split(' ') as [string, string];
      const mailbox = (await gateway.call('GET', '/api/v1/mailboxes', { key })).body.data as unknown as {
        id: string;
      }[];
      const ids: Record<string, string> = {
        domains: domain.id,
        mailboxes: mailbox[0]?.id ?? 'none',
        keys: other,
        webhooks: webhook,
      };
      const id = ids[path.split('/')[3]!] ?? 'none';
      const call = { key, body: exampleOf(schema) };
      const { status } = await gateway.call(method.toUpperCase(), path.replace('{id}', id), call);
      // The domain is there by now, as the team's own, no resolver is there to be asked, and nobody has been invited.
      const expected = {
        'post /api/v1/domains': 409,
        'post /api/v1/domains/claims': 409,
        'post /api/v1/domains/preflight': 503,
        'post /api/v1/invitations/accept': 404,
        'post /api/v1/session': 401,
        'post /api/v1/domains/{id}/setup-instructions': 202,
      }[name];
      expect([name, status]).toEqual([
        name,
        expected ??
          (/\/(mailboxes|keys|webhooks|replay|rotate|setup-link|owners\/invitations)$/.test(path) ? 201 : 200),
      ]);
    }
  });

  it.each(['bind', 'terraform', 'route53', 'octodns', 'dnscontrol', 'nsupdate'])(
    'has the media type of the zone file for %s, and what it is read as',
    async (format) => {
      const { key } = await gateway.key();
      const body = { domain: `${format}.acme.com` };
      const { id } = (await gateway.call('POST', '/api/v1/domains', { key, body })).body.data;
      const answer = await gateway.call('GET', `/api/v1/domains/${id}/zone-file?format=${format}`, { key });
      expect(answer.status).toBe(200);
      const mediaType = answer.headers.get('content-type')!.split(';', 1)[0]!;
      const { schema } = contract.operation('GET', `/api/v1/domains/${id}/zone-file`)!.responses['200']!.content![
        mediaType
      ]!;
      const isData = format === 'route53' || format === 'octodns';
      expect(schema).toMatchObject({ type: isData ? 'object' : 'string' });
    },
  );
});

const exampleOf = ({ properties, required = [] }: BodySchema) =>
  Object.fromEntries(
    Object.entries(properties)
      .filter(([name, { example }]) => example !== undefined || required.includes(name))
      .map(([name, { example }]) => [name, example]),
  );
