import { Catch, HttpException, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { DatabaseError } from 'pg';
import { AppendUnanswered, WrongExpectedVersion } from '@app/event-store';
import { DomainRuleBroken, NameRefused } from '@app/mail-domain';
import { AddressRefused, MailboxRuleBroken } from '@app/mailbox';
import { ApiError, errorCodes, type ErrorCode } from './api-error';
import { methodsOf } from './routes';

/** The only place where an exception becomes an answer. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  private readonly logger = new Logger(ErrorFilter.name);

  catch(exception: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    if (request.url.startsWith('/health') && exception instanceof HttpException && exception.getStatus() === 503) {
      // Not an error but the report of the health probes.
      void reply.status(503).send(exception.getResponse());
      return;
    }
    const error = apiError(exception, request);
    if (error.status >= 500 && !(exception instanceof ApiError))
      this.logger.error({ err: exception, request_id: request.id }, error.message);
    void reply.status(error.status).headers(error.headers()).send(error.envelope(request.id));
  }
}

function apiError(exception: unknown, request: FastifyRequest): ApiError {
  if (exception instanceof ApiError) return exception;
  if (exception instanceof NameRefused) {
    const { code, reason, message } = exception;
    return new ApiError(code, message, { param: 'domain', errors: [{ code: reason, param: 'domain', message }] });
  }
  if (exception instanceof AddressRefused) {
    const { code, reason, message } = exception;
    return new ApiError(code, message, { param: 'address', errors: [{ code: reason, param: 'address', message }] });
  }
  if (exception instanceof MailboxRuleBroken) {
    const { code, message, param } = exception;
    return new ApiError(code, message, { ...(param && { param }) });
  }
  if (exception instanceof DomainRuleBroken) return new ApiError(exception.code, exception.message);
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
  if (exception instanceof HttpException) return ofStatus(exception, request);
  if (isOutage(exception))
    return new ApiError('service_unavailable', 'Our database does not answer just now. Try again shortly.', {
      retryAfter: 5,
    });
  return new ApiError('internal_error', 'Something failed on our side. Try again, or tell us the request id.');
}

/** What Nest and Fastify refuse by themselves. */
function ofStatus(exception: HttpException, request: FastifyRequest): ApiError {
  const status = exception.getStatus();
  const path = request.url.split('?', 1)[0]!;
  // To a path that no file can have, the files of the documentation answer 403.
  if (status === 404 || status === 403) {
    const methods = methodsOf(request.server, path);
    if (methods.length > 0 && !methods.includes(request.method)) {
      const allow = methods.join(', ');
      return new ApiError('method_not_allowed', `${path} knows ${allow}.`, { headers: { allow } });
    }
    return new ApiError('not_found', `There is nothing at ${request.method} ${path}.`);
  }
  if (status === 413) return new ApiError('payload_too_large', 'The body is too large: 64 KiB is the most.');
  if (status === 415) return new ApiError('unsupported_media_type', 'Send the body as application/json.');
  const code = (Object.keys(errorCodes) as ErrorCode[]).find((known) => errorCodes[known].status === status);
  if (status < 500) return new ApiError(code && status !== 400 ? code : 'invalid_parameter', exception.message);
  return new ApiError('internal_error', 'Something failed on our side. Try again, or tell us the request id.');
}

/** Connection errors of the socket and of `pg`; and the SQLSTATE classes of a server that is away, full or stuck. */
function isOutage(exception: unknown): boolean {
  if (exception instanceof DatabaseError) return /^(08|53|57)/.test(exception.code ?? '');
  if (!(exception instanceof Error)) return false;
  const { code } = exception as NodeJS.ErrnoException;
  if (code !== undefined) return ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND'].includes(code);
  return /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection)/.test(
    exception.message,
  );
}
