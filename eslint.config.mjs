import js from '@eslint/js';
import regexp from 'eslint-plugin-regexp';
import tseslint from 'typescript-eslint';
import { oneWayToTheDatabase } from './tools/database-rules.mjs';
import { orderByColumns } from './tools/order-rules.mjs';
import { tablesAtHome } from './tools/table-rules.mjs';

const sendmux = {
  rules: {
    'one-way-to-the-database': oneWayToTheDatabase,
    'order-by-columns': orderByColumns,
    'tables-at-home': tablesAtHome,
  },
};

const eventPattern = {
  name: '@nestjs/microservices',
  importNames: ['EventPattern'],
  message: 'It takes any name. OnEvent of @app/subscriptions takes those of events that exist.',
};
const printedBy = 'print, printLines, printJson and say of output.ts write what is hidden as escapes.';

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', '**/*.{js,cjs,mjs}', 'web/shared/api-types.d.ts'] },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      'no-restricted-syntax': [
        'error',
        {
          selector: 'SpreadElement > :matches(ObjectExpression, ArrayExpression).argument',
          message: 'A literal that is spread where it stands says no more than its own items: write them out.',
        },
      ],
      'no-empty': ['error', { allowEmptyCatch: false }],
    },
  },
  {
    // Anybody may choose what these read: a pattern whose parts overlap takes minutes for 64 KiB.
    files: ['{apps,libs,local,web}/**/*.{ts,tsx}'],
    ignores: ['**/*.spec.ts'],
    plugins: { regexp },
    rules: {
      'regexp/no-super-linear-backtracking': ['error', { report: 'potential' }],
      'regexp/no-super-linear-move': ['error', { report: 'potential', ignoreSticky: false, ignorePartial: false }],
    },
  },
  {
    files: ['apps/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: [eventPattern] }] },
  },
  {
    // What others have written must not reach an operator's terminal as a command, nor pass for another line.
    files: ['apps/cli/**/*.ts'],
    ignores: ['**/*.spec.ts', 'apps/cli/{output,progress,event-file}.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        ...['stdout', 'stderr'].map((property) => ({ object: 'process', property, message: printedBy })),
      ],
      'no-restricted-imports': [
        'error',
        {
          paths: [
            eventPattern,
            ...['process', 'node:process', 'console', 'node:console'].map((name) => ({ name, message: printedBy })),
          ],
        },
      ],
      'no-console': 'error',
    },
  },
  {
    files: ['apps/verification-scheduler/**/*.ts'],
    ignores: ['**/*.spec.ts'],
    rules: { 'max-lines': ['error', 200], 'max-lines-per-function': ['error', 40] },
  },
  {
    // Tests also play others that connect, and bench what we are measured against.
    files: ['{apps,libs,local}/**/*.ts', 'test/support/**/*.ts'],
    ignores: ['**/*.spec.ts', 'libs/database/connections.ts', 'libs/messaging/lock-connection.ts'],
    plugins: { sendmux },
    rules: { 'sendmux/one-way-to-the-database': 'error' },
  },
  {
    // A migration changes the tables as they were on its day.
    files: ['{apps,libs,local}/**/*.ts'],
    ignores: ['**/*.spec.ts', '**/*{migration,migrations}.ts'],
    plugins: { sendmux },
    rules: { 'sendmux/tables-at-home': 'error' },
  },
  {
    files: ['{apps,libs,local}/**/*.ts'],
    ignores: ['**/*.spec.ts'],
    plugins: { sendmux },
    rules: { 'sendmux/order-by-columns': 'error' },
  },
);
