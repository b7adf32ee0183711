import { smtpFault } from './smtp-error';

const reply = (responseCode: number, command: string, text = '') => ({
  responseCode,
  command,
  response: `${responseCode} ${text}`,
});

it.each([
  ['recipient', reply(550, 'RCPT TO', '5.1.1 no such user')],
  ['recipient', reply(554, 'DATA', '5.6.0 not taken')],
  ['ours', reply(550, 'RCPT TO', '5.7.1 relaying denied')],
  ['ours', reply(530, 'MAIL FROM', 'authentication required')],
  ['ours', reply(553, 'MAIL FROM', '5.1.8 no such sender')],
  ['ours', reply(554, 'CONN', 'not from your address')],
  ['ours', { code: 'EAUTH', responseCode: 535, command: 'AUTH PLAIN', response: '535 5.7.8 wrong' }],
  ['ours', { code: 'EAUTH', command: 'AUTH XOAUTH2' }],
  ['passing', { code: 'EAUTH', responseCode: 454, command: 'AUTH PLAIN', response: '454 4.7.0 later' }],
  ['passing', reply(451, 'RCPT TO', '4.3.0 later')],
  ['passing', { code: 'ECONNECTION' }],
  ['passing', { code: 'ETIMEDOUT', command: 'CONN' }],
] as const)('P1: a reply is sorted: %s (%j)', (fault, error) => expect(smtpFault(error)).toBe(fault));
