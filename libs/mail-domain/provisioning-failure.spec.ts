import { provisioningFailure } from './provisioning-failure';

it.each([
  ['ses', 'refused', false, 'Amazon SES does not accept the name.'],
  ['mail_server', 'deadline', false, 'The mail server was not ready in time.'],
  [
    'ses',
    'foreign',
    false,
    'Amazon SES has the name already, and not from this platform. Our support can settle that: contact@sendmux.ai.',
  ],
  [
    'mail_server',
    'refused',
    true,
    'The mail server cannot take domains just now because of a fault on our side, which our operators are told of.',
  ],
] as const)('a failure says why in our own words: %s %s, ours: %j', (step, kind, isOurs, reason) => {
  expect(provisioningFailure(step, kind, isOurs)).toEqual({ step, kind, isOurs, reason });
  if (!isOurs) expect(provisioningFailure(step, kind)).toEqual({ step, kind, isOurs, reason });
});
