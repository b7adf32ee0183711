import { isConnectionLoss } from './connection-loss';

const coded = (code: string, syscall?: string) => Object.assign(new Error('x'), { code, ...(syscall && { syscall }) });

it.each([
  ['the server is shut down', coded('57P01')],
  ['too many connections', coded('53300')],
  [
    'the database takes no connections now',
    Object.assign(new Error('database "a" is not currently accepting connections'), { code: '55000' }),
  ],
  ['nothing listens', coded('ECONNREFUSED', 'connect')],
  ['nothing listens on either address', new AggregateError([coded('ECONNREFUSED', 'connect')])],
  ['the socket broke', new Error('Connection terminated unexpectedly')],
  ['the pool waited in vain', new Error('timeout exceeded when trying to connect')],
  ['told by a wrapper', new Error('The log cannot be read', { cause: coded('08006') })],
])('%s: to be tried again', (_, error) => expect(isConnectionLoss(error)).toBe(true));

it.each([
  ['a missing table', coded('42P01')],
  ['a file that is missing', coded('ENOENT', 'open')],
  ['a wrong password', coded('28P01')],
  ['a statement that took too long', coded('57014')],
  ['a mistake of ours', new TypeError("Cannot read properties of undefined (reading 'x')")],
  ['no error at all', 'Connection terminated'],
])('%s: not mended by trying again', (_, error) => expect(isConnectionLoss(error)).toBe(false));
