import { ValidationPipe, type ArgumentMetadata } from '@nestjs/common';
import { IsInt, IsOptional, IsString } from 'class-validator';
import { SparingValidation } from './sparing-validation';

class Page {
  @IsOptional()
  @IsInt()
  limit = 50;
}
class Wanted {
  @IsString()
  email: string;
}

const validation = new SparingValidation({ transform: true });
const query = (metatype: new () => object): ArgumentMetadata => ({ type: 'query', metatype });
const validate = jest.spyOn(ValidationPipe.prototype, 'transform');
beforeEach(() => validate.mockClear());

it('validates an empty query once, and gives a new one with its defaults each time', async () => {
  const first = await validation.transform({}, query(Page));
  const second = await validation.transform({}, query(Page));
  for (const each of [first, second]) {
    expect(each).toBeInstanceOf(Page);
    expect(each).toEqual({ limit: 50 });
  }
  expect(second).not.toBe(first);
  expect(validate).toHaveBeenCalledTimes(1);
});

it('refuses an empty query that lacks something each time', async () => {
  for (let time = 0; time < 2; time++) await expect(validation.transform({}, query(Wanted))).rejects.toThrow();
  expect(validate).toHaveBeenCalledTimes(2);
});

it('validates a query that says something, and every body', async () => {
  await validation.transform({}, query(Page));
  await expect(validation.transform({ limit: 'many' }, query(Page))).rejects.toThrow();
  await expect(validation.transform({}, { type: 'body', metatype: Wanted })).rejects.toThrow();
});
