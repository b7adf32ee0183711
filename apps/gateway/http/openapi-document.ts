import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { DocumentBuilder, SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { messageSchemas, webhooksSection } from '../webhooks/messages';
import { apiPath, limitHeaders } from './openapi';

/** Generates the OpenAPI document from the controllers. */
export function openApiDocument(app: NestFastifyApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setTitle('Sendmux domains')
    .setDescription(
      'The whole life of a mail domain: add it, place its DNS records, verify it, create mailboxes on it, delete it. Every answer carries `ok` and `meta.request_id`. What cannot be read as a request of HTTP/1.1 is refused before any operation, in the same form: 400, 408, 417, 431 or 501.',
    )
    .setVersion('1')
    .setOpenAPIVersion('3.1.0')
    .addServer(apiPath)
    .addBearerAuth(
      { type: 'http', scheme: 'bearer', bearerFormat: 'smx_root_…', description: 'An opaque API key of your team.' },
      'apiKey',
    )
    .addBearerAuth(
      { type: 'http', scheme: 'bearer', bearerFormat: 'smx_setup_…', description: 'The token of a setup link.' },
      'setupLink',
    )
    .addCookieAuth(
      '__Host-sendmux_session',
      { type: 'apiKey', in: 'cookie', description: 'A session of the console. It stands for its API key everywhere.' },
      'session',
    )
    .addTag('domains', 'Mail domains of your team')
    .addTag('mailboxes', 'Mailboxes on your domains, and on myagent.mx')
    .addTag('keys', 'API keys of your team')
    .addTag('owners', 'Owners of your team, who get its notices by e-mail')
    .addTag('webhooks', 'Endpoints of your team, to which what happens is sent')
    .addTag('account', 'Whose key this is')
    .addTag('setup', 'Setting up a domain without an API key')
    .addTag('session', 'Signing in to the console')
    .addTag('invitations', 'Becoming an owner of a team')
    .build();
  const document = SwaggerModule.createDocument(app, config, { extraModels: messageSchemas });
  document.webhooks = webhooksSection;
  document.paths = belowServer(document);
  closeBodies(document);
  forgetKeys(document);
  return document;
}

type Operation = NonNullable<OpenAPIObject['paths'][string]['get']>;
type Schema = NonNullable<NonNullable<OpenAPIObject['components']>['schemas']>[string];

const operationsOf = ({ paths }: OpenAPIObject): Operation[] =>
  Object.values(paths).flatMap(({ get, post, put, patch, delete: remove }) =>
    [get, post, put, patch, remove].filter((operation) => operation !== undefined),
  );

/** Gives the paths of the API relative to its server, without those for operators: health and metrics. */
const belowServer = ({ paths }: OpenAPIObject): OpenAPIObject['paths'] =>
  Object.fromEntries(
    Object.entries(paths)
      .filter(([path]) => path.startsWith(`${apiPath}/`))
      .map(([path, item]) => [path.slice(apiPath.length), item]),
  );

/**
 * Says of each request body what `UnknownParametersGuard` does: it has the fields that are named, and no others.
 */
function closeBodies(document: OpenAPIObject): void {
  for (const { requestBody } of operationsOf(document)) {
    const schema =
      requestBody && 'content' in requestBody ? requestBody.content['application/json']?.schema : undefined;
    if (schema) close(schema, document);
  }
}

/** Closes the objects of a schema, and those within them. */
function close(schema: Schema, document: OpenAPIObject): void {
  if ('$ref' in schema) {
    const named = document.components!.schemas![schema.$ref.split('/').at(-1)!]!;
    if ('properties' in named) Object.assign(named, { additionalProperties: false });
    close(named, document);
    return;
  }
  const inner = [...(schema.allOf ?? []), ...(schema.oneOf ?? []), ...(schema.anyOf ?? [])];
  for (const each of [...inner, ...Object.values(schema.properties ?? {}), ...(schema.items ? [schema.items] : [])])
    close(each, document);
}

/** Takes from the operations without an API key the answers and headers that only a key leads to. */
function forgetKeys(document: OpenAPIObject): void {
  for (const { security, responses } of operationsOf(document)) {
    if (security) continue;
    for (const status of ['401', '403']) delete responses[status];
    for (const response of Object.values(responses) as { headers?: Record<string, object> }[])
      for (const name of Object.keys(limitHeaders)) delete response.headers?.[name];
  }
}

/** Serves the document at `/api/v1/openapi.json` and a page to read it at `/api/v1/docs`. */
export function serveOpenApi(app: NestFastifyApplication, document: OpenAPIObject): void {
  SwaggerModule.setup('api/v1/docs', app, document, {
    raw: ['json'],
    jsonDocumentUrl: 'api/v1/openapi.json',
    customSiteTitle: 'Sendmux domains API',
  });
}
