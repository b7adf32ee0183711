import { NotThePrimary } from './connections';
import { isPassingFault, postgresFault } from './postgres-fault';

const coded = (code: string, syscall?: string) => Object.assign(new Error('x'), { code, ...(syscall && { syscall }) });

it.each([
  ['ours', coded('28P01')],
  ['ours', coded('28000')],
  ['ours', coded('3D000')],
  ['ours', coded('42501')],
  ['ours', coded('42P01')],
  ['ours', coded('42703')],
  ['ours', coded('XX000')],
  ['data', coded('22P05')],
  ['data', coded('23505')],
  ['busy', coded('40P01')],
  ['busy', coded('55P03')],
  ['busy', coded('57014')],
  ['unreachable', coded('55000')],
  ['unreachable', coded('57P03')],
  ['unreachable', coded('53300')],
  ['unreachable', coded('25006')],
  ['unreachable', coded('25P03')],
  ['unreachable', new NotThePrimary()],
  ['unreachable', coded('ECONNREFUSED', 'connect')],
  ['unreachable', new AggregateError([coded('ECONNREFUSED', 'connect')])],
  ['ours', new Error('No database', { cause: coded('28P01') })],
  ['unreachable', new Error('timeout expired')],
  ['unreachable', new Error('Query read timeout')],
  [undefined, new Error('x')],
  [undefined, new Error('the timeout expired')],
  [undefined, coded('ENOENT', 'open')],
  [undefined, new AggregateError([coded('ECONNREFUSED', 'connect'), new Error('x')])],
] as const)('P1: an error of PostgreSQL is sorted: %s (%#)', (fault, error) =>
  expect(postgresFault(error)).toBe(fault),
);

it.each(['57014', '40P01', '40001', '55P03', '57P01'])('a statement may be repeated after %s', (code) =>
  expect(isPassingFault(coded(code))).toBe(true),
);
it.each(['42P01', '22P02', '28P01'])('a statement is not worth repeating after %s', (code) =>
  expect(isPassingFault(coded(code))).toBe(false),
);
