import { Logger } from '@nestjs/common';
import { register } from 'prom-client';
import { CircuitBreaker } from './circuit-breaker';

const alarm = async (): Promise<number> => {
  const { values } = await register.getSingleMetric('sendmux_verification_alarm')!.get();
  return values.find(({ labels }) => labels.reason === 'mass_failure')!.value;
};

it('alarms once for an incident, and again for the next, though another scheduler has ended the first', async () => {
  const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
  jest.spyOn(Logger.prototype, 'log').mockImplementation();
  let now = 0;
  const breaker = new CircuitBreaker(1_000, () => now);
  breaker.open(5, 'mass_failure', 'slot 5');
  breaker.open(6, 'mass_failure', 'slot 6');
  breaker.close(6);
  expect([error.mock.calls.length, await alarm()]).toEqual([1, 1]);
  now = 900;
  breaker.open(5, 'mass_failure', 'slot 5');
  now = 1_800;
  breaker.close(7);
  expect([error.mock.calls.length, await alarm()]).toEqual([1, 1]);
  now = 2_000;
  breaker.close(8);
  expect(await alarm()).toBe(0);
  breaker.open(77, 'mass_failure', 'slot 77');
  now = 4_000;
  breaker.open(78, 'mass_failure', 'slot 78');
  expect(error.mock.calls.map(([message]: string[]) => message)).toEqual(['slot 5', 'slot 77', 'slot 78']);
});
