import { Catch, HttpException, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AccountRuleBroken } from '@app/accounts';
import { InstallationFull, QuotaExceeded, StreamHasChanged } from '@app/commands';
import { isPassingFault, postgresFault } from '@app/database';
import { AppendUnanswered, ArchiveAway, ArchiveBroken, WrongExpectedVersion } from '@app/event-store';
import { DomainRuleBroken } from '@app/mail-domain';
import { NameRefused } from '@app/mail-records';
import { AddressRefused, MailboxRuleBroken, SenderRuleRefused } from '@app/mailbox';
import { CounterpartAlarm } from '@app/runtime';
import { ReplayRefused, TargetRefused, WebhookRuleBroken } from '@app/webhooks';
import { AllShardsClosed } from '../domains/open-shards';
import { ApiError, errorCodes, type ErrorCode } from './api-error';
import { preconditionFailed } from './preconditions';
import { quotaRefused } from './quota-refusals';

/** Tells an operator of refusals that no request has caused, such as a wrong password or a table that is not there. */
const databaseAlarm = new CounterpartAlarm('database');
const archiveAlarm = new CounterpartAlarm('archive');

/** Turns every exception into an error answer. Nothing else in the gateway does. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  private readonly logger = new Logger(ErrorFilter.name);

  /** @param publicUrl under which customers reach the gateway. */
  constructor(private readonly publicUrl: string) {}

  catch(exception: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    if (request.url.startsWith('/health') && exception instanceof HttpException && exception.getStatus() === 503) {
      // The exception is the report of a health probe, which keeps its own form.
      void reply.status(503).send(exception.getResponse());
      return;
    }
    const error = apiError(exception, request);
    const isTold =
      exception instanceof ApiError || exception instanceof InstallationFull || exception instanceof AllShardsClosed;
    if (error.status >= 500 && !isTold) this.logger.error({ err: exception, request_id: request.id }, error.message);
    void reply.status(error.status).headers(error.headers()).send(error.envelope(request.id, this.publicUrl));
  }
}

/** The names by which the mail API has our fields. */
const otherNames: Readonly<Record<string, string>> = { address: 'email', outbound_provider: 'send_scope' };

/** Gives the name by which a request has sent a field. */
function sent(param: string, { body }: FastifyRequest): string {
  const other = otherNames[param];
  const has = (name: string) => typeof body === 'object' && body !== null && name in body;
  return other !== undefined && has(other) && !has(param) ? other : param;
}

function apiError(exception: unknown, request: FastifyRequest): ApiError {
  if (exception instanceof ApiError) return exception;
  // The client has hung up, or was too slow and has its answer: nobody reads this one.
  if (exception === request.raw.errored) return new ApiError('request_timeout', 'The body did not come in whole.');
  if (exception instanceof NameRefused) {
    const { code, reason, message } = exception;
    return new ApiError(code, message, { param: 'domain', errors: [{ code: reason, param: 'domain', message }] });
  }
  if (exception instanceof AddressRefused) {
    const { code, reason, message } = exception;
    const param = sent('address', request);
    return new ApiError(code, message, { param, errors: [{ code: reason, param, message }] });
  }
  if (exception instanceof MailboxRuleBroken) {
    const { code, message, param } = exception;
    return new ApiError(code, message, { ...(param && { param: sent(param, request) }) });
  }
  if (exception instanceof SenderRuleRefused)
    return new ApiError('validation_error', exception.message, { param: `rules.${exception.index}.pattern` });
  if (exception instanceof DomainRuleBroken) return new ApiError(exception.code, exception.message);
  if (exception instanceof AccountRuleBroken) return ofAccountRule(exception);
  if (exception instanceof TargetRefused) {
    const { message } = exception;
    return new ApiError('validation_error', message, {
      param: 'url',
      errors: [{ code: 'url_refused', param: 'url', message }],
    });
  }
  if (exception instanceof ReplayRefused) {
    const { message, param } = exception;
    return new ApiError(param === undefined ? 'conflict' : 'invalid_parameter', message, { param });
  }
  if (exception instanceof WebhookRuleBroken) return ofWebhookRule(exception, request);
  if (
    exception instanceof QuotaExceeded ||
    exception instanceof InstallationFull ||
    exception instanceof AllShardsClosed
  )
    return quotaRefused(exception);
  if (exception instanceof StreamHasChanged) return preconditionFailed(request.method);
  if (exception instanceof WrongExpectedVersion)
    return new ApiError('service_unavailable', 'Too many changes of the same thing at once. Try again.', {
      retryAfter: 1,
    });
  if (exception instanceof AppendUnanswered)
    return new ApiError(
      'service_unavailable',
      'Our database has not answered, so what you asked for may be done or not. Look, or send it again shortly.',
      { retryAfter: 5 },
    );
  if (exception instanceof ArchiveAway || exception instanceof ArchiveBroken) {
    const reason = exception instanceof ArchiveAway ? 'away' : 'broken';
    archiveAlarm.raise(reason, 'the file of an archive of the log cannot be read', { said: exception.message });
    return new ApiError(
      'service_unavailable',
      'What you asked for is in our archive, which cannot be read just now. An operator has been told.',
      { retryAfter: 3_600 },
    );
  }
  if (exception instanceof HttpException) return ofStatus(exception, request);
  if (isPassingFault(exception))
    return new ApiError('service_unavailable', 'Our database does not answer just now. Try again shortly.', {
      retryAfter: 5,
    });
  if (postgresFault(exception) === 'ours') {
    const { code, message } = exception as Error & { readonly code?: string };
    databaseAlarm.raise(code ?? 'unknown', 'the database refuses what this installation asks', { said: message });
    return new ApiError('service_unavailable', 'Our database refuses us just now. An operator has been told.', {
      retryAfter: 60,
    });
  }
  return new ApiError('internal_error', 'Something failed on our side. Try again, or tell us the request id.');
}

const accountRules: Record<AccountRuleBroken['code'], readonly [code: ErrorCode, param?: string]> = {
  team_not_found: ['not_found'],
  team_in_use: ['conflict'],
  key_not_found: ['not_found'],
  owner_not_found: ['not_found'],
  invitation_not_found: ['not_found'],
  key_ended: ['conflict'],
  setup_link_not_found: ['not_found'],
  too_many_setup_links: ['limit_exceeded'],
  too_many_setup_mails: ['rate_limit_exceeded'],
  already_owner: ['conflict', 'email'],
  too_many_invitations: ['limit_exceeded'],
  last_owner: ['conflict', 'email'],
  grant_exceeds: ['insufficient_permissions'],
  invalid_name: ['validation_error', 'name'],
  invalid_email: ['validation_error', 'email'],
  invalid_grant: ['validation_error', 'permissions'],
};

function ofAccountRule({ code: rule, message, count, retryAfter }: AccountRuleBroken): ApiError {
  const [code, param] = accountRules[rule];
  return new ApiError(code, message, {
    count,
    retryAfter,
    ...(param !== undefined && { param, errors: [{ code: rule, param, message }] }),
  });
}

/** Seconds after which an operator may have set what is missing. */
const noKeysForSeconds = 600;

function ofWebhookRule({ code, message, count }: WebhookRuleBroken, { method }: FastifyRequest): ApiError {
  switch (code) {
    case 'webhook_not_found':
      return new ApiError('not_found', message);
    case 'webhook_has_changed':
      return preconditionFailed(method);
    case 'too_many_webhooks':
      return new ApiError('limit_exceeded', message, { count });
    case 'no_secret_keys':
      return new ApiError('service_unavailable', message, { retryAfter: noKeysForSeconds });
  }
}

/** Converts the exceptions that Nest and Fastify throw themselves. */
function ofStatus(exception: HttpException, request: FastifyRequest): ApiError {
  const status = exception.getStatus();
  const path = request.url.split('?', 1)[0]!;
  // The static files of the documentation answer 403 to a path that no file can have.
  if (status === 404 || status === 403)
    return new ApiError('not_found', `There is nothing at ${request.method} ${path}.`);
  if (status === 413) return new ApiError('payload_too_large', 'The body is too large: 64 KiB is the most.');
  if (status === 415) return new ApiError('unsupported_media_type', 'Send the body as application/json.');
  const code = (Object.keys(errorCodes) as ErrorCode[]).find((known) => errorCodes[known].status === status);
  if (status < 500) return new ApiError(code && status !== 400 ? code : 'invalid_parameter', exception.message);
  return new ApiError('internal_error', 'Something failed on our side. Try again, or tell us the request id.');
}
