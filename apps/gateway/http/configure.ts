import { ValidationPipe, type ValidationError } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Histogram } from 'prom-client';
import { newId, type AppToRun } from '@app/runtime';
import { ApiError } from './api-error';
import { ApiKeys } from './api-key.guard';
import { ErrorFilter } from './error.filter';
import { NothingUnknown } from './nothing-unknown';
import { openApiDocument, serveOpenApi } from './openapi';
import { noteRoutes } from './routes';

const duration = new Histogram({
  name: 'sendmux_http_request_duration_seconds',
  help: 'From the head of a request to the end of its answer',
  labelNames: ['method', 'route', 'status'],
  buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
});

const behindKeys = ['/api/v1/domains', '/api/v1/mailboxes'];

/** What holds for every request of the gateway. Runs before the port opens. */
export function configure(app: NestFastifyApplication): void {
  const fastify = app.getHttpAdapter().getInstance();
  noteRoutes(fastify);
  fastify.addHook('onRequest', (request, reply, done) => {
    void reply.header('x-request-id', request.id);
    done();
  });
  const apiKeys = app.get(ApiKeys);
  fastify.addHook('onRequest', async (request, reply) => {
    // Where no route matches too: a body that is read first could be refused before it is known whose it is.
    const path = request.routeOptions.url ?? request.url;
    if (behindKeys.some((base) => path.startsWith(base))) await apiKeys.identify(request, reply);
  });
  fastify.addHook('onResponse', ({ method, routeOptions }, { statusCode, elapsedTime }, done) => {
    duration.observe({ method, route: routeOptions.url ?? 'none', status: statusCode }, elapsedTime / 1000);
    done();
  });
  acceptJsonOnly(app);
  app.useGlobalFilters(new ErrorFilter());
  app.useGlobalPipes(new ValidationPipe({ transform: true, stopAtFirstError: true, exceptionFactory: invalid }));
  const document = openApiDocument(app);
  app.useGlobalInterceptors(new NothingUnknown(document));
  serveOpenApi(app, document);
}

/** What Fastify refuses before any hook runs: a path that no route can have, and what is not HTTP. */
export const refusals: AppToRun['refusals'] = {
  frameworkErrors: (_error, { id, method }, { raw }) => {
    const error = new ApiError('not_found', `There is nothing at the path of this ${method}.`);
    raw.writeHead(error.status, { 'content-type': 'application/json; charset=utf-8', 'x-request-id': id });
    raw.end(JSON.stringify(error.envelope(id)));
  },
  clientErrorHandler: (fault, socket) => {
    if (!socket.writable) return;
    const id = newId('req');
    const tooLarge = fault.code === 'HPE_HEADER_OVERFLOW';
    const message = tooLarge ? 'The head of the request is too large.' : 'This is not an HTTP request.';
    const body = JSON.stringify(new ApiError('invalid_parameter', message).envelope(id));
    const status = tooLarge ? '431 Request Header Fields Too Large' : '400 Bad Request';
    const head = [`HTTP/1.1 ${status}`, 'content-type: application/json', `content-length: ${body.length}`];
    socket.end([...head, `x-request-id: ${id}`, 'connection: close', '', body].join('\r\n'));
  },
};

/** An empty body is none: many clients send the content type with every request. What is no JSON object is refused. */
function acceptJsonOnly(app: NestFastifyApplication): void {
  const fastify = app.getHttpAdapter().getInstance();
  // A field of any name is read here, `__proto__` too, and refused by its name afterwards.
  const parse = fastify.getDefaultJsonParser('ignore', 'ignore');
  const refused = (message: string) => new ApiError('invalid_parameter', message);
  app.useBodyParser('application/json', {}, (request, body: Buffer, done) => {
    if (body.length === 0) done(null, undefined);
    else
      void parse(request as never, body.toString('utf8'), (error, value: unknown) => {
        if (error) done(refused('The body is not valid JSON.'));
        else if (typeof value !== 'object' || value === null || Array.isArray(value))
          done(refused('The body must be a JSON object.'));
        else done(null, value);
      });
  });
  // Nest and Fastify would read these two as well.
  const refuse = (_request: unknown, _body: unknown, done: (error: Error) => void) =>
    done(new ApiError('unsupported_media_type', 'Send the body as application/json.'));
  app.useBodyParser('application/x-www-form-urlencoded', {}, refuse);
  app.useBodyParser('text/plain', {}, refuse);
}

/** The faults of a body or a query as one error; the first of them gives its code. */
function invalid(errors: ValidationError[]): ApiError {
  const faults = errors.map(({ property, value, constraints = {} }) => {
    if (value === undefined || value === null)
      return { code: 'missing_parameter', param: property, message: `"${property}" is missing.` };
    return { code: 'invalid_parameter', param: property, message: `${Object.values(constraints).join('; ')}.` };
  });
  const first = faults.find(({ code }) => code === 'missing_parameter') ?? faults[0]!;
  return new ApiError(first.code === 'missing_parameter' ? 'missing_parameter' : 'invalid_parameter', first.message, {
    param: first.param,
    errors: faults,
  });
}
