import { Logger, ServiceUnavailableException, type ArgumentsHost } from '@nestjs/common';
import { DatabaseError } from 'pg';
import { register } from 'prom-client';
import { AppendUnanswered, ArchiveAway, ArchiveBroken, PartitionClosed, WrongExpectedVersion } from '@app/event-store';
import { DomainRuleBroken } from '@app/mail-domain';
import { NameRefused } from '@app/mail-records';
import { ErrorFilter } from './error.filter';

Logger.overrideLogger(false);

interface Sent {
  status?: number;
  headers?: Record<string, string>;
  body?: { error?: { code: string; message: string; retryable: boolean }; meta?: object };
}

function answerTo(exception: unknown, url = '/api/v1/domains', errored: Error | null = null): Sent {
  const sent: Sent = {};
  const reply = {
    status: (status: number) => (Object.assign(sent, { status }), reply),
    headers: (headers: Record<string, string>) => (Object.assign(sent, { headers }), reply),
    send: (body: object) => (Object.assign(sent, { body }), reply),
  };
  const http = {
    getRequest: () => ({ id: 'req_1', url, method: 'GET', server: {}, raw: { errored } }),
    getResponse: () => reply,
  };
  new ErrorFilter('https://app.example.com').catch(exception, {
    switchToHttp: () => http,
  } as unknown as ArgumentsHost);
  return sent;
}

const databaseError = (code: string) => Object.assign(new DatabaseError('secret', 1, 'error'), { code });
const systemError = (code: string) => Object.assign(new Error('secret 10.0.0.1'), { code, syscall: 'connect' });

const closed = (cause: Error) => new PartitionClosed('secret', { cause });

describe('the answer to an exception', () => {
  it.each([
    ['a database that refuses', systemError('ECONNREFUSED'), 503, 'service_unavailable', '5'],
    ['a database that starts', databaseError('57P03'), 503, 'service_unavailable', '5'],
    ['a database that is full', databaseError('53300'), 503, 'service_unavailable', '5'],
    ['a deadlock', databaseError('40P01'), 503, 'service_unavailable', '5'],
    ['a statement that took too long', databaseError('57014'), 503, 'service_unavailable', '5'],
    ['a connection that broke', new Error('Connection terminated unexpectedly'), 503, 'service_unavailable', '5'],
    ['an append without an answer', new AppendUnanswered('secret', new Error('x')), 503, 'service_unavailable', '5'],
    ['a partition that nobody can open', closed(new PartitionClosed('secret')), 503, 'service_unavailable', '5'],
    ['a partition that we may not open', closed(databaseError('42501')), 503, 'service_unavailable', '60'],
    ['an archive that is away', new ArchiveAway('/secret', systemError('ENOENT')), 503, 'service_unavailable', '3600'],
    ['an archive that was changed', new ArchiveBroken('/secret', 'x'), 503, 'service_unavailable', '3600'],
    ['a race without end', new WrongExpectedVersion('secret', 1, 2), 503, 'service_unavailable', '1'],
    ['a table that is not there', databaseError('42P01'), 503, 'service_unavailable', '60'],
    ['a value that the schema refuses', databaseError('22P02'), 500, 'internal_error', undefined],
    ['a bug', new TypeError('secret is not a function'), 500, 'internal_error', undefined],
    ['what is no error', 'secret', 500, 'internal_error', undefined],
  ])('%s is %i, and reveals no internals', (_what, exception, status, code, retryAfter) => {
    const { body, ...sent } = answerTo(exception);
    expect(sent).toEqual({ status, headers: retryAfter === undefined ? {} : { 'retry-after': retryAfter } });
    expect(body).toMatchObject({ ok: false, error: { code, retryable: true }, meta: { request_id: 'req_1' } });
    expect(JSON.stringify(body)).not.toContain('secret');
  });

  it('raises an alarm where the database refuses the installation, and for no other fault', async () => {
    const raised = async () => {
      const { values } = (await register.getSingleMetric('sendmux_counterpart_alarms_total')!.get()) as {
        values: { labels: object; value: number }[];
      };
      return values.filter(({ labels }) => (labels as { counterpart: string }).counterpart === 'database');
    };
    register.resetMetrics();
    for (const code of ['57P03', '22P02', '42501']) answerTo(databaseError(code));
    expect(await raised()).toEqual([{ labels: { counterpart: 'database', reason: '42501' }, value: 1 }]);
  });

  it('does not say that nothing was done when that is not known', () => {
    expect(answerTo(new AppendUnanswered('secret', new Error('x'))).body).toMatchObject({
      error: { message: expect.stringContaining('may be done or not') as string },
    });
  });

  it('keeps the words of a broken rule', () => {
    expect(answerTo(new DomainRuleBroken('conflict', 'Taken.'))).toMatchObject({
      status: 409,
      body: { error: { code: 'conflict', message: 'Taken.', retryable: false } },
    });
    expect(answerTo(new NameRefused('validation_error', 'public_suffix', 'A suffix.'))).toMatchObject({
      status: 422,
      body: { error: { param: 'domain', errors: [{ code: 'public_suffix', message: 'A suffix.' }] } },
    });
  });

  it('N11: takes the reset of the client for no fault of the database', () => {
    const reset = systemError('ECONNRESET');
    expect(answerTo(reset, undefined, reset)).toMatchObject({
      status: 408,
      body: { error: { code: 'request_timeout' } },
    });
    expect(answerTo(reset, undefined, systemError('ECONNRESET')).status).toBe(503);
  });

  it('leaves the report of the health probes as it is', () => {
    const report = { status: 'error', error: { database: { status: 'down' } } };
    expect(answerTo(new ServiceUnavailableException(report), '/health/ready')).toEqual({ status: 503, body: report });
  });
});
