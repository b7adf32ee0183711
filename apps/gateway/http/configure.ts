import { Logger, type ValidationError } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyRequest } from 'fastify';
import { Histogram } from '@app/runtime';
import { Pages, type AppToRun } from '@app/process';
import { ApiError } from './api-error';
import { ApiKeyGuard, ApiKeys } from './api-key.guard';
import { ErrorFilter } from './error.filter';
import { serveErrorPage } from './error-page';
import { apiPath } from './openapi';
import { openApiDocument, serveOpenApi } from './openapi-document';
import { refuseFor } from './refusals';
import { acceptJsonOnly } from './request-body';
import { isFixed, methodsOf, noteRoutes } from './routes';
import { SetupCallers } from './setup-link.guard';
import { allowScriptsBelow, securityHeaders } from './security-headers';
import { SparingValidation } from './sparing-validation';
import { UnknownParametersGuard } from './unknown-parameters.guard';

const duration = new Histogram({
  name: 'sendmux_http_request_duration_seconds',
  help: 'From the head of a request to the end of its answer',
  labelNames: ['method', 'route', 'status'],
  buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
});

const behindKeys = new RegExp(`^${apiPath}/(domains|mailboxes|keys|owners|webhooks|me)(?![a-z])`);
const behindSetupLinks = new RegExp(`^${apiPath}/setup(?![a-z])`);

/**
 * Says how the gateway treats HTTP, as `main.ts` and the tests run it.
 *
 * @param publicUrl under which customers reach the gateway.
 * @param pages the directory of the pages, as the build makes it; no pages are served when absent.
 */
export const edgeOf = (publicUrl: string, pages?: string): Pick<AppToRun, 'configure' | 'refuse' | 'headers'> => ({
  configure: (app) => configure(app, publicUrl, pages),
  refuse: refuseFor(publicUrl),
  headers: securityHeaders,
});

const logger = new Logger('Gateway');

/** Configures what applies to every request of the gateway. Call it before the app listens. */
function configure(app: NestFastifyApplication, publicUrl: string, directory = ''): void {
  const fastify = app.getHttpAdapter().getInstance();
  noteRoutes(fastify);
  fastify.addHook('onRequest', (request, reply, done) => {
    void reply.header('x-request-id', request.id);
    done();
  });
  const pages = new Pages({ directory, pages: { '/': 'index.html', '/setup': 'setup.html' }, fallback: '/' });
  const apiKeys = app.get(ApiKeys);
  const setupCallers = app.get(SetupCallers);
  fastify.addHook('onRequest', async (request, reply) => {
    // The path is used where no route matches: otherwise the body would be read, and could be refused, before the
    // caller is known.
    const path = request.routeOptions.url ?? request.url;
    if (behindKeys.test(path)) await apiKeys.identify(request, reply);
    else if (behindSetupLinks.test(path)) await setupCallers.identify(request, reply);
    if (request.is404 && pages.fallBack(request, reply)) return reply;
    assertRoute(request);
    return undefined;
  });
  fastify.addHook('onResponse', ({ method, routeOptions }, { statusCode, elapsedTime }, done) => {
    duration.observe({ method, route: routeOptions.url ?? 'none', status: statusCode }, elapsedTime / 1000);
    done();
  });
  allowScriptsBelow(fastify, '/api/v1/docs');
  acceptJsonOnly(app);
  app.useGlobalFilters(new ErrorFilter(publicUrl));
  app.useGlobalPipes(new SparingValidation({ transform: true, stopAtFirstError: true, exceptionFactory: invalid }));
  const document = openApiDocument(app);
  // Interceptors would have each answer go through an Observable.
  app.useGlobalGuards(new ApiKeyGuard(), new UnknownParametersGuard(document));
  serveOpenApi(app, document);
  serveErrorPage(fastify);
  pages.serve(fastify);
  if (directory !== '' && !pages.areThere) logger.warn(`There are no pages in ${directory}: npm run build makes them.`);
}

/**
 * Refuses a request that no route takes, before its body is read.
 *
 * @throws {ApiError} `method_not_allowed` where the path has other methods, else `not_found`.
 */
function assertRoute({ is404, method, server, url, routeOptions }: FastifyRequest): void {
  if (!is404 && !routeOptions.url?.includes(':')) return;
  const path = url.split('?', 1)[0]!;
  // A route with parameters takes whatever path it matches, but for those of other routes.
  if (!is404 && !isFixed(server, path)) return;
  const methods = methodsOf(server, path);
  if (methods.length > 0 && !methods.includes(method)) {
    const allow = methods.join(', ');
    throw new ApiError('method_not_allowed', `${path} knows ${allow}.`, { headers: { allow } });
  }
  if (is404) throw new ApiError('not_found', `There is nothing at ${method} ${path}.`);
}

/** Makes one error of all faults of a body or a query; its code is that of the first fault. */
function invalid(errors: ValidationError[]): ApiError {
  const faults = errors.flatMap((error) => faultsOf(error));
  const first = faults.find(({ code }) => code === 'missing_parameter') ?? faults[0]!;
  return new ApiError(first.code, first.message, { param: first.param, errors: faults });
}

/** Gives the faults of a field, or else of the fields in it, which are named by the path to them. */
function faultsOf({ property, value, constraints, children = [] }: ValidationError, within = ''): Fault[] {
  const param = within + property;
  if (!constraints && children.length > 0) return children.flatMap((child) => faultsOf(child, `${param}.`));
  if (value === undefined) return [{ code: 'missing_parameter', param, message: `"${param}" is missing.` }];
  // A null was sent, so it is not called missing.
  const said = `${value === null ? 'null is not allowed: ' : ''}${Object.values(constraints ?? {}).join('; ')}.`;
  return [{ code: 'invalid_parameter', param, message: said }];
}

interface Fault {
  readonly code: 'missing_parameter' | 'invalid_parameter';
  readonly param: string;
  readonly message: string;
}
